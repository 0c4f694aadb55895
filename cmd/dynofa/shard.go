package main

import (
	"fmt"
	"os"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/governor/library/evaluate"
)

// shard is what this process does of a job: what the flag says, else what a scheduler says to a process that
// writes a part, else all. It tells on stderr what it took from the environment.
func (e *env) shard(flag string, part bool) (evaluate.Shard, error) {
	whole := evaluate.Shard{Index: 0, Count: 1}
	if flag != "" {
		return evaluate.ParseShard(flag)
	}
	if !part {
		return whole, nil
	}
	s, from, err := evaluate.ShardOf(os.Getenv)
	if err != nil || from == "" {
		return whole, err
	}
	fmt.Fprintf(e.stderr, "dynofa: shard %v, from %s\n", s, from)
	return s, nil
}

// encoder is a part of either kind.
type encoder interface{ Encode() ([]byte, error) }

func writePart(path string, part encoder) error {
	data, err := part.Encode()
	if err != nil {
		return err
	}
	return atomicfile.Write(path, data)
}

// readParts reads part files of one kind.
func readParts[P any](paths []string, decode func(name string, data []byte) (P, error)) ([]P, error) {
	const limit = 1 << 30
	var parts []P
	for _, path := range paths {
		info, err := os.Stat(path)
		if err != nil {
			return nil, err
		}
		if !info.Mode().IsRegular() || info.Size() > limit {
			return nil, fmt.Errorf("%s: expected a part file of at most %d bytes", path, limit)
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		part, err := decode(path, data)
		if err != nil {
			return nil, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}
