// QuantumLink
