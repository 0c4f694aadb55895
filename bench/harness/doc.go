// Package harness runs scenarios of inferences and keeps what they took: who asks when (as MLPerf's LoadGen asks),
// what machine it was on and what happened to it meanwhile, in one record that becomes the formats of others.
package harness
