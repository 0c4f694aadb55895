package main

// #define DYNOFA_GOVERNOR_TYPES_ONLY
// #include "dynofa_governor.h"
import "C"

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unsafe"

	"github.com/dynofa/dynofa/governor"
)

var governors table // a C library has no other place for what its handles mean

const maxLevels, maxClaims = 1 << 16, 1 << 10

// say writes a sentence into a buffer of C.
func say(err error, to *C.char, size C.size_t) {
	if to == nil || size == 0 {
		return
	}
	buffer := unsafe.Slice((*byte)(unsafe.Pointer(to)), int(min(size, 1<<16)))
	n := copy(buffer[:len(buffer)-1], strings.ReplaceAll(err.Error(), "\n", "; "))
	buffer[n] = 0
}

//export dynofa_governor_new
func dynofa_governor_new(config *C.dynofa_governor_config, out *C.dynofa_governor, text *C.char, size C.size_t) C.int32_t { //nolint:revive // C's name
	handle, err := create(config, out)
	if out != nil {
		*out = C.dynofa_governor(handle)
	}
	if err != nil {
		say(err, text, size)
		return C.DYNOFA_GOVERNOR_E_ARGUMENT
	}
	return C.DYNOFA_GOVERNOR_OK
}

func create(given *C.dynofa_governor_config, out *C.dynofa_governor) (uint64, error) {
	switch {
	case given == nil || out == nil:
		return 0, fmt.Errorf("config or out is NULL, expected both")
	case given.struct_size < 8:
		return 0, fmt.Errorf("struct_size is %d, expected %d", given.struct_size, C.sizeof_dynofa_governor_config)
	}
	var config C.dynofa_governor_config
	known := min(given.struct_size, C.sizeof_dynofa_governor_config)
	copy(unsafe.Slice((*byte)(unsafe.Pointer(&config)), known), unsafe.Slice((*byte)(unsafe.Pointer(given)), known))
	switch {
	case config.levels == nil:
		return 0, fmt.Errorf("levels is NULL, expected an array of level_count, which is %d", config.level_count)
	case config.level_count == 0 || config.level_count > maxLevels:
		return 0, fmt.Errorf("level_count is %d, expected 1 to %d", config.level_count, maxLevels)
	case config.threads > 1024:
		return 0, fmt.Errorf("threads is %d, expected 0 to 1024", config.threads)
	}
	c, err := constraints(float64(config.deadline_ms), float64(config.probability), float64(config.min_accuracy))
	if err != nil {
		return 0, err
	}
	s := settings{constraints: c, threads: int(config.threads), sensors: config.sensors != 0}
	if config.policy != nil {
		s.policy = C.GoString(config.policy)
	}
	for i, l := range unsafe.Slice(config.levels, int(config.level_count)) {
		latency, ok := milliseconds(float64(l.latency_ms))
		if !ok {
			return 0, fmt.Errorf("level %d: latency_ms is %v, expected more than zero and at most a day", i, float64(l.latency_ms))
		}
		s.levels = append(s.levels, governor.Level{Accuracy: float64(l.accuracy), Latency: []time.Duration{latency}})
	}
	return governors.add(s)
}

//export dynofa_governor_next
func dynofa_governor_next(g C.dynofa_governor) C.int32_t { //nolint:revive // C's name
	n := governors.get(uint64(g))
	if n == nil {
		return C.DYNOFA_GOVERNOR_E_HANDLE
	}
	return C.int32_t(n.next())
}

//export dynofa_governor_next_within
func dynofa_governor_next_within(g C.dynofa_governor, left C.double) C.int32_t { //nolint:revive // C's name
	n := governors.get(uint64(g))
	if n == nil {
		return C.DYNOFA_GOVERNOR_E_HANDLE
	}
	d, ok := milliseconds(float64(left))
	if !ok && !(left <= 0) {
		return C.DYNOFA_GOVERNOR_E_ARGUMENT
	}
	return C.int32_t(n.nextWithin(d))
}

//export dynofa_governor_observe
func dynofa_governor_observe(g C.dynofa_governor, latency C.double) C.int32_t { //nolint:revive // C's name
	n := governors.get(uint64(g))
	if n == nil {
		return C.DYNOFA_GOVERNOR_E_HANDLE
	}
	d, ok := milliseconds(float64(latency))
	if !ok {
		return C.DYNOFA_GOVERNOR_E_ARGUMENT
	}
	if !n.observe(d) {
		return C.DYNOFA_GOVERNOR_E_STATE
	}
	return C.DYNOFA_GOVERNOR_OK
}

//export dynofa_governor_gave_up
func dynofa_governor_gave_up(g C.dynofa_governor) C.int32_t { //nolint:revive // C's name
	n := governors.get(uint64(g))
	if n == nil {
		return C.DYNOFA_GOVERNOR_E_HANDLE
	}
	return C.int32_t(n.gaveUp.Load())
}

//export dynofa_governor_constrain
func dynofa_governor_constrain(g C.dynofa_governor, deadline, probability, minAccuracy C.double, text *C.char, size C.size_t) C.int32_t { //nolint:revive // C's name
	n := governors.get(uint64(g))
	if n == nil {
		say(errHandle, text, size)
		return C.DYNOFA_GOVERNOR_E_HANDLE
	}
	c, err := constraints(float64(deadline), float64(probability), float64(minAccuracy))
	if err == nil {
		err = n.governor.SetConstraints(c)
	}
	if err != nil {
		say(err, text, size)
		return C.DYNOFA_GOVERNOR_E_ARGUMENT
	}
	return C.DYNOFA_GOVERNOR_OK
}

//export dynofa_governor_share
func dynofa_governor_share(claims *C.dynofa_governor_claim, count C.uint32_t, budget C.double, limits *C.double, text *C.char, size C.size_t) C.int32_t { //nolint:revive // C's name
	status, err := share(claims, count, budget, limits)
	if err != nil {
		say(err, text, size)
	}
	return status
}

func share(claims *C.dynofa_governor_claim, count C.uint32_t, budget C.double, limits *C.double) (C.int32_t, error) {
	if claims == nil || limits == nil || count == 0 || count > maxClaims {
		return C.DYNOFA_GOVERNOR_E_ARGUMENT, fmt.Errorf("%d claims, expected 1 to %d, and neither claims nor limits_ms NULL", count, maxClaims)
	}
	list := make([]claim, count)
	for i, c := range unsafe.Slice(claims, int(count)) {
		list[i] = claim{uint64(c.governor), float64(c.period_ms), int(c.priority)}
	}
	result, err := governors.share(list, float64(budget))
	switch {
	case errors.Is(err, errHandle):
		return C.DYNOFA_GOVERNOR_E_HANDLE, err
	case err != nil:
		return C.DYNOFA_GOVERNOR_E_ARGUMENT, err
	}
	for i, ms := range result {
		unsafe.Slice(limits, int(count))[i] = C.double(ms)
	}
	return C.DYNOFA_GOVERNOR_OK, nil
}

//export dynofa_governor_free
func dynofa_governor_free(g *C.dynofa_governor) { //nolint:revive // C's name
	if g != nil {
		governors.remove(uint64(*g))
		*g = 0
	}
}
