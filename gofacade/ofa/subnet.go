package ofa

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
)

// Subnet is one choice in a Space, in OFA's own JSON form: {"ks":[...],"e":[...],"d":[...],"r":224}. Slot i of
// Kernels and Expands belongs to the i-th stored block of the elastic stages; slots that the depth cuts off
// are present and have no effect.
type Subnet struct {
	Kernels    []int `json:"ks"` // depthwise kernel size per slot
	Expands    []int `json:"e"`  // expand ratio per slot
	Depths     []int `json:"d"`  // number of blocks per stage
	Resolution int   `json:"r"`  // image side in pixels
}

// UnmarshalJSON reads the form that encoding/json writes and two variants that OFA's tools write: "r":[224] and
// a "wid" that is null. Other keys are ignored, so that a case file's entry can be read as the Subnet it is.
func (n *Subnet) UnmarshalJSON(data []byte) error {
	var raw struct {
		Kernels    []int           `json:"ks"`
		Expands    []int           `json:"e"`
		Depths     []int           `json:"d"`
		Resolution json.RawMessage `json:"r"`
		Width      json.RawMessage `json:"wid"`
	}
	if err := json.Unmarshal(data, &raw); err != nil {
		return err
	}
	if w := string(raw.Width); w != "" && w != "null" && w != "[null]" {
		return &FieldError{"wid", w, "null (the width is the supernet's own)"}
	}
	r, err := resolution(raw.Resolution)
	if err != nil {
		return err
	}
	*n = Subnet{raw.Kernels, raw.Expands, raw.Depths, r}
	return nil
}

func resolution(raw json.RawMessage) (int, error) {
	var r int
	if json.Unmarshal(raw, &r) == nil {
		return r, nil
	}
	var list []int
	if json.Unmarshal(raw, &list) == nil && len(list) == 1 {
		return list[0], nil
	}
	return 0, &FieldError{"r", cmp.Or(string(raw), "missing"), "an image side such as 224 or [224]"}
}

// Check says whether the Space offers this Subnet: a [*FieldError] naming the first illegal field, its value
// and the legal ones, or nil.
func (s *Space) Check(n Subnet) error {
	if err := s.CheckArch(n); err != nil {
		return err
	}
	return oneOf("r", n.Resolution, s.Resolutions)
}

// CheckArch is Check without the list of trained resolutions: any side from 1 to 2048 pixels passes, because
// a convolutional network runs, if not well, at any.
func (s *Space) CheckArch(n Subnet) error {
	slots := s.Slots()
	for _, list := range []struct {
		field string
		v     []int
		n     int
	}{{"ks", n.Kernels, slots}, {"e", n.Expands, slots}, {"d", n.Depths, len(s.Stages)}} {
		if len(list.v) != list.n {
			return &FieldError{list.field, fmt.Sprintf("%d long", len(list.v)), fmt.Sprintf("%d values", list.n)}
		}
	}
	for i, d := range n.Depths {
		if !slices.Contains(s.Stages[i].Depths, d) {
			return oneOf(fmt.Sprintf("d[%d]", i), d, s.Stages[i].Depths)
		}
	}
	for i := range slots {
		if !slices.Contains(s.Kernels, n.Kernels[i]) {
			return oneOf(fmt.Sprintf("ks[%d]", i), n.Kernels[i], s.Kernels)
		}
		if !slices.Contains(s.Expands, n.Expands[i]) {
			return oneOf(fmt.Sprintf("e[%d]", i), n.Expands[i], s.Expands)
		}
	}
	return between("r", n.Resolution, 1, maxResolution)
}

// Uniform is the Subnet with one kernel size, expand ratio, depth and resolution everywhere. A stage that does
// not offer the depth takes its largest one below, or its smallest.
func (s *Space) Uniform(kernel, expand, depth, r int) Subnet {
	n := Subnet{
		Kernels:    slices.Repeat([]int{kernel}, s.Slots()),
		Expands:    slices.Repeat([]int{expand}, s.Slots()),
		Depths:     make([]int, len(s.Stages)),
		Resolution: r,
	}
	for i := range s.Stages {
		n.Depths[i] = s.Stages[i].Depths[0]
		for _, d := range s.Stages[i].Depths {
			if d <= depth {
				n.Depths[i] = d
			}
		}
	}
	return n
}

// Smallest is the Subnet with the smallest value of every choice.
func (s *Space) Smallest() Subnet {
	return s.Uniform(s.Kernels[0], s.Expands[0], 0, s.Resolutions[0])
}

// Largest is the Subnet with the largest value of every choice: the whole supernet.
func (s *Space) Largest() Subnet {
	return s.Uniform(s.MaxKernel(), s.MaxExpand(), maxDepth, s.MaxResolution())
}

// Canonical copies a legal Subnet with the slots that its depths cut off set to the smallest values, so that
// two Subnets are the same network exactly when their canonical forms are equal.
func (s *Space) Canonical(n Subnet) Subnet {
	c := n.clone()
	slot := 0
	for i := range s.Stages {
		for b := range s.Stages[i].MaxDepth() {
			if b >= n.Depths[i] {
				c.Kernels[slot], c.Expands[slot] = s.Kernels[0], s.Expands[0]
			}
			slot++
		}
	}
	return c
}

func (n Subnet) clone() Subnet {
	return Subnet{slices.Clone(n.Kernels), slices.Clone(n.Expands), slices.Clone(n.Depths), n.Resolution}
}

// Text is the canonical text form of a legal Subnet: the resolution, then per stage its blocks as
// kernel x expand ratio, for example "r28_3x2_5x3.7x4_3x2". It is the same for the same network, needs no
// quoting in a shell or a file name, and [Space.Parse] reads it.
func (s *Space) Text(n Subnet) string {
	var b strings.Builder
	fmt.Fprintf(&b, "r%d", n.Resolution)
	slot := 0
	for i := range s.Stages {
		sep := byte('_')
		for j := range n.Depths[i] {
			b.WriteByte(sep)
			fmt.Fprintf(&b, "%dx%d", n.Kernels[slot+j], n.Expands[slot+j])
			sep = '.'
		}
		slot += s.Stages[i].MaxDepth()
	}
	return b.String()
}

// Parse reads a Subnet in its text form or as JSON and checks it against the Space.
func (s *Space) Parse(text string) (Subnet, error) {
	text = strings.TrimSpace(text)
	var n Subnet
	var err error
	if strings.HasPrefix(text, "{") {
		n, err = parseJSON(text)
	} else {
		n, err = s.parseText(text)
	}
	if err == nil {
		err = s.Check(n)
	}
	if err != nil {
		return Subnet{}, fmt.Errorf("ofa: sub-network %.80q: %w", text, err)
	}
	return s.Canonical(n), nil
}

func parseJSON(text string) (Subnet, error) {
	var n Subnet
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if err := d.Decode(&n); err != nil {
		return n, err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return n, errors.New("more text after the JSON object")
	}
	return n, nil
}

func (s *Space) parseText(text string) (Subnet, error) {
	parts := strings.Split(text, "_")
	if len(parts) != 1+len(s.Stages) || !strings.HasPrefix(parts[0], "r") {
		return Subnet{}, fmt.Errorf("expected r<side> and %d stages joined by _, such as %s", len(s.Stages), s.Text(s.Smallest()))
	}
	n := s.Smallest()
	var err error
	if n.Resolution, err = strconv.Atoi(parts[0][1:]); err != nil {
		return n, &FieldError{"r", parts[0][1:], fmt.Sprintf("one of %v", s.Resolutions)}
	}
	slot := 0
	for i, part := range parts[1:] {
		blocks := strings.Split(part, ".")
		n.Depths[i] = len(blocks)
		if err := oneOf(fmt.Sprintf("d[%d]", i), len(blocks), s.Stages[i].Depths); err != nil {
			return n, err
		}
		for j, block := range blocks {
			k, e, _ := strings.Cut(block, "x")
			kernel, err1 := strconv.Atoi(k)
			expand, err2 := strconv.Atoi(e)
			if err1 != nil || err2 != nil {
				return n, fmt.Errorf("block %q of stage %d: expected <kernel>x<expand ratio>, such as 3x4", block, i)
			}
			n.Kernels[slot+j], n.Expands[slot+j] = kernel, expand
		}
		slot += s.Stages[i].MaxDepth()
	}
	return n, nil
}

// Sample draws a Subnet: every slot, depth and the resolution uniformly and independently. The same generator
// state gives the same Subnet on every machine.
func (s *Space) Sample(rng *rand.Rand) Subnet {
	pick := func(v []int) int { return v[rng.IntN(len(v))] }
	n := s.Smallest()
	for i := range n.Kernels {
		n.Kernels[i], n.Expands[i] = pick(s.Kernels), pick(s.Expands)
	}
	for i := range n.Depths {
		n.Depths[i] = pick(s.Stages[i].Depths)
	}
	n.Resolution = pick(s.Resolutions)
	return n
}

// Neighbours lists, in a fixed order and canonical form, the Subnets one step away from a legal one: a single
// kernel size, expand ratio, depth or the resolution moved to the next smaller or larger legal value. Blocks
// that a greater depth adds come with the smallest kernel and expand ratio.
func (s *Space) Neighbours(n Subnet) []Subnet {
	n = s.Canonical(n)
	var out []Subnet
	step := func(legal []int, field func(*Subnet) *int) {
		at := slices.Index(legal, *field(&n))
		for _, to := range []int{at - 1, at + 1} {
			if at < 0 || to < 0 || to >= len(legal) {
				continue
			}
			m := n.clone()
			*field(&m) = legal[to]
			out = append(out, s.Canonical(m))
		}
	}
	slot := 0
	for i := range s.Stages {
		for j := range n.Depths[i] {
			step(s.Kernels, func(m *Subnet) *int { return &m.Kernels[slot+j] })
			step(s.Expands, func(m *Subnet) *int { return &m.Expands[slot+j] })
		}
		step(s.Stages[i].Depths, func(m *Subnet) *int { return &m.Depths[i] })
		slot += s.Stages[i].MaxDepth()
	}
	step(s.Resolutions, func(m *Subnet) *int { return &m.Resolution })
	return out
}
