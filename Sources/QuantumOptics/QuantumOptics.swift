// QuantumOptics
