package profile

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/dynofa/dynofa/gofacade/atomicfile"
	"github.com/dynofa/dynofa/gofacade/ofa"
	"github.com/dynofa/dynofa/governor/library/latency"
)

// partialName is the file in which an unfinished run keeps what it has measured.
const partialName = "partial.json"

const (
	maxPartialBytes = 256 << 20
	maxBlocks       = 1 << 20
	maxNS           = 1e15 // a run: eleven days
)

// identity is what measurements must share to be of one table.
type identity struct {
	Bundle      string `json:"bundle_sha256"`
	Backend     string `json:"backend"`
	Device      string `json:"device,omitempty"`
	Threads     int    `json:"threads"`
	CPU         string `json:"cpu"`
	Resolutions []int  `json:"resolutions"`
	Seed        uint64 `json:"seed"`
}

// partial is everything that was measured.
type partial struct {
	identity
	Seconds float64 `json:"seconds"`
	Rounds  []round `json:"rounds"`
}

type round struct {
	Anchors []block `json:"anchors"`
	Blocks  []block `json:"blocks"`
}

// block is one network's turn.
type block struct {
	Subnet string  `json:"n"`
	Whole  int64   `json:"t"` // a run, ns
	Layers []int64 `json:"l,omitempty"`
	Dirt   dirt    `json:"d,omitempty"`
	Again  int     `json:"a,omitempty"` // turns before that were disturbed and do not count
}

func (p *partial) save(dir string) error {
	return atomicfile.Replace(filepath.Join(dir, partialName), func(w io.Writer) error { return json.NewEncoder(w).Encode(p) })
}

// resume reads what a run before left in a directory, if it did.
func resume(dir string, s *ofa.Space, id identity) (*partial, error) {
	path := filepath.Join(dir, partialName)
	info, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return &partial{identity: id}, nil
	}
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() || info.Size() > maxPartialBytes {
		return nil, fmt.Errorf("%s: expected a regular file of at most %d bytes", path, maxPartialBytes)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := parsePartial(data, s, id)
	if err != nil {
		return nil, fmt.Errorf("%s: %w; remove it to begin again", path, err)
	}
	return p, nil
}

func parsePartial(data []byte, s *ofa.Space, id identity) (*partial, error) {
	p := new(partial)
	if err := json.Unmarshal(data, p); err != nil {
		return nil, fmt.Errorf("starts with %.40q: %w", data, err)
	}
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"bundle", p.Bundle, id.Bundle}, {"backend", p.Backend, id.Backend}, {"device", p.Device, id.Device}, {"number of threads", p.Threads, id.Threads},
		{"CPU", p.CPU, id.CPU}, {"list of resolutions", p.Resolutions, id.Resolutions}, {"seed", p.Seed, id.Seed},
	} {
		if got, want := fmt.Sprint(f.got), fmt.Sprint(f.want); got != want {
			return nil, fmt.Errorf("an unfinished run with another %s, %.80q, not %.80q", f.name, got, want)
		}
	}
	if !(p.Seconds >= 0 && p.Seconds < 1e9) {
		return nil, fmt.Errorf("seconds is %v, expected 0 to 1e9", p.Seconds)
	}
	blocks := 0
	for i := range p.Rounds {
		r := &p.Rounds[i]
		if len(r.Anchors) == 0 || len(r.Blocks) == 0 {
			return nil, fmt.Errorf("round %d has %d anchors and %d networks, expected some", i, len(r.Anchors), len(r.Blocks))
		}
		for layered, list := range [][]block{r.Anchors, r.Blocks} {
			for j := range list {
				if err := list[j].check(s, layered == 1); err != nil {
					return nil, fmt.Errorf("round %d: %w", i, err)
				}
			}
			blocks += len(list)
		}
		if blocks > maxBlocks {
			return nil, fmt.Errorf("over %d networks, expected fewer", maxBlocks)
		}
	}
	return p, nil
}

func (b *block) check(s *ofa.Space, layered bool) error {
	n, err := s.Parse(b.Subnet)
	if err != nil {
		return err
	}
	if b.Whole < 1 || b.Whole > maxNS {
		return fmt.Errorf("%s took %d ns, expected 1 to %d", b.Subnet, b.Whole, int64(maxNS))
	}
	if b.Dirt < clean || b.Dirt > disturbed || b.Again < 0 || b.Again > mostRepeats {
		return fmt.Errorf("%s has dirt %d after %d turns, expected %d to %d after at most %d", b.Subnet, b.Dirt, b.Again, clean, disturbed, mostRepeats)
	}
	if layered {
		keys, err := latency.Keys(s, n)
		if err != nil {
			return err
		}
		if len(b.Layers) != len(keys) {
			return fmt.Errorf("%s has %d layers, expected %d", b.Subnet, len(b.Layers), len(keys))
		}
	}
	sum := int64(0)
	for _, ns := range b.Layers {
		if ns < 0 || ns > maxNS {
			return fmt.Errorf("a layer of %s took %d ns, expected 0 to %d", b.Subnet, ns, int64(maxNS))
		}
		sum += ns
	}
	if layered && sum == 0 {
		return fmt.Errorf("no layer of %s took any time", b.Subnet)
	}
	return nil
}
