//go:build !cgo

package main

func engine() string { return "no C engine" }
