// Package reference computes a sub-network the plain way: one loop a formula, every number a float64, no
// packing, no folding, no fusing. It is the oracle that the engines and the exporter answer to, so it shares
// nothing with them but the description of the network in package ofa. It is for tests; it trusts its input
// and is slow.
package reference
