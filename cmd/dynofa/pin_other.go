//go:build !linux

package main

// allowedCores are the cores that the calling thread may use: nobody knows here.
func allowedCores() []int { return nil }

// pinThreadTo keeps the calling thread on a core and tells whether that worked.
func pinThreadTo(int) bool { return false }
