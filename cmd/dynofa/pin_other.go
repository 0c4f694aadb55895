//go:build !linux

package main

// pinThread keeps the calling thread on one core and returns its number: -1, not available here.
func pinThread() int { return -1 }

// pinThreadTo keeps the calling thread on a core and tells whether that worked.
func pinThreadTo(int) bool { return false }
