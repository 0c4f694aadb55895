// Package capitest measures the native engine from C, for the test that says what a call from Go costs more.
package capitest
