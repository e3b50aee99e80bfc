// KeyDeposit
