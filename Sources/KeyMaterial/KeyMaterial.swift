// KeyMaterial
