package evaluate

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

var source = Source{Model: "m", Backend: "native/ref", Split: "test", Data: "d", Images: 200}

// evaluated is the part of a shard, through its file.
func evaluated(t *testing.T, s Shard) *Part {
	t.Helper()
	p := &Part{Source: source, Name: "here"}
	p.From, p.To = s.Range(200)
	m, err := Measure(context.Background(), levels(200), p.From, p.To, []Network{net, net}, []Selector{&choosing{shifted: shifted{wrong: 50}}}, 1, nil)
	require.NoError(t, err)
	for i, c := range m.Counts {
		p.Levels = append(p.Levels, PartLevel{Level: i, Subnet: fmt.Sprint("subnet ", i), Counts: c})
	}
	return reread(t, fmt.Sprint("part ", s), p)
}

func reread(t *testing.T, name string, p *Part) *Part {
	t.Helper()
	data, err := p.Encode()
	require.NoError(t, err)
	again, err := DecodePart(name, data)
	require.NoError(t, err)
	return again
}

func TestMergeGivesTheSameForAnyNumberOfShards(t *testing.T) {
	whole, err := Merge([]*Part{evaluated(t, Shard{0, 1})})
	require.NoError(t, err)
	require.InDelta(t, 75, whole.Levels[1].Result(200).Top1, 1e-9)
	for _, n := range []int{2, 3, 7, 200} {
		var parts []*Part
		for i := range n {
			parts = append(parts, evaluated(t, Shard{i, n}))
		}
		rand.Shuffle(n, func(i, j int) { parts[i], parts[j] = parts[j], parts[i] })
		merged, err := Merge(parts)
		require.NoError(t, err)
		require.Equal(t, whole, merged, "%d shards", n)
	}
}

func TestMergeRefusesWhatIsNotOneWhole(t *testing.T) {
	part := func(i int, change func(*Part)) *Part {
		p := evaluated(t, Shard{i, 3})
		if change != nil {
			change(p)
		}
		return p
	}
	same := func(*Part) {}
	for _, c := range []struct {
		name  string
		parts []*Part
		want  string
	}{
		{"nothing", nil, "no parts given"},
		{"gap in the middle", []*Part{part(0, nil), part(2, nil)}, "images 66 to 132 of 200 are in none of the 2 parts"},
		{"gap at the start", []*Part{part(1, nil), part(2, nil)}, "images 0 to 65 of 200 are in none"},
		{"gap at the end", []*Part{part(0, nil), part(1, nil)}, "images 133 to 199 of 200 are in none"},
		{"twice", []*Part{part(0, nil), part(1, nil), part(2, nil), part(1, nil)}, "images 66 to 132 are both in part 1/3 and in part 1/3"},
		{"overlap", []*Part{part(0, nil), evaluated(t, Shard{0, 2}), part(2, nil)}, "images 0 to 65 are both in"},
		{"another model", []*Part{part(0, nil), part(1, func(p *Part) { p.Model = "n" }), part(2, nil)}, "model of part 0/3 is m, that of part 1/3 is n"},
		{"another backend", []*Part{part(0, nil), part(1, func(p *Part) { p.Backend = "purego" }), part(2, nil)}, "backend of part 0/3 is native/ref, that of part 1/3 is purego"},
		{"another split", []*Part{part(0, nil), part(1, func(p *Part) { p.Split = "train" }), part(2, nil)}, "split of part 0/3"},
		{"other data", []*Part{part(0, nil), part(1, func(p *Part) { p.Data = "e" }), part(2, nil)}, "data of part 0/3"},
		{"fewer images", []*Part{part(0, nil), part(1, func(p *Part) { p.Images = 199 }), part(2, nil)}, "images of part 0/3 is 200, that of part 1/3 is 199"},
		{"fewer levels", []*Part{part(0, nil), part(1, func(p *Part) { p.Levels = p.Levels[1:] }), part(2, nil)}, "part 0/3 has 2 levels, part 1/3 has 1"},
		{"other levels", []*Part{part(0, nil), part(1, func(p *Part) { p.Levels[1].Subnet = "x" }), part(2, nil)}, `levels[1] of part 0/3 is 1, "subnet 1", that of part 1/3 is 1, "x"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := Merge(c.parts)
			require.ErrorIs(t, err, ErrPart)
			require.ErrorContains(t, err, c.want)
		})
	}
	_, err := Merge([]*Part{part(0, same), part(1, same), part(2, same)})
	require.NoError(t, err, "nothing but the changes is wrong")
}

// A file that breaks off anywhere, or in which a byte has changed, is no part.
func TestDamagedPartsAreRefused(t *testing.T) {
	data, err := evaluated(t, Shard{1, 3}).Encode()
	require.NoError(t, err)
	for n := range len(data) - 1 { // without its last byte, a newline, it is whole
		_, err := DecodePart("x.json", data[:n])
		require.ErrorIs(t, err, ErrPart, "%d bytes", n)
		require.ErrorContains(t, err, "x.json")
	}
	for i := range data {
		bad := slices.Clone(data)
		bad[i] ^= 1
		if p, err := DecodePart("x.json", bad); err == nil {
			again, err := p.Encode()
			require.NoError(t, err)
			require.Equal(t, data, again, "byte %d changed and nobody noticed", i)
		}
	}
	_, err = DecodeCalibrationPart("x.json", data)
	require.ErrorContains(t, err, `it is a "dynofa evaluation part 1", expected a "dynofa calibration part 1"`)
	_, err = DecodePart("x.json", append(data, '1'))
	require.ErrorContains(t, err, "more text")
}

func TestPartsWithImpossibleNumbersAreRefused(t *testing.T) {
	changes := map[string]func(*Part){
		"images 66 to 65": func(p *Part) { p.To = 66 },
		"images -1 to":    func(p *Part) { p.From = -1 },
		"132 of 100":      func(p *Part) { p.Images = 100 },
		"no levels":       func(p *Part) { p.Levels = nil },
		"top1 is -1":      func(p *Part) { p.Levels[0].Top1 = -1 },
		"top5 68 of 67":   func(p *Part) { p.Levels[0].Top5 = 68 },
		"top1 is 67 and":  func(p *Part) { p.Levels[1].Top1, p.Levels[1].Top5 = 67, 3 },
	}
	if most := math.MaxInt32; strconv.IntSize > 32 {
		changes["to 2147483647 of"] = func(p *Part) { p.To, p.Images = most+1, most+1 }
	}
	for want, change := range changes {
		p := evaluated(t, Shard{1, 3})
		change(p)
		data, err := p.Encode()
		require.NoError(t, err)
		_, err = DecodePart("x.json", data)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, ErrPart)
	}
}

// calibrated is a part with numbers that tell batches apart.
func calibrated(t *testing.T, s Shard) *CalibrationPart {
	t.Helper()
	p := &CalibrationPart{Source: Source{Model: "m", Split: "train", Data: "d", Images: 47}, Name: "here", Batch: 10}
	p.From, p.To = s.Range(5)
	for _, name := range []string{"a", "b"} {
		sub := CalibrationSubnet{Subnet: name}
		for b := p.From; b < p.To; b++ {
			v := math.Exp(float64(b)) / 3
			sub.Batches = append(sub.Batches, Batch{min(10, 47-10*b), [][]float64{{v, -v}, {1}}, [][]float64{{v * v, 0}, {math.SmallestNonzeroFloat64}}})
		}
		p.Subnets = append(p.Subnets, sub)
	}
	return recalibrated(t, fmt.Sprint("part ", s), p)
}

func recalibrated(t *testing.T, name string, p *CalibrationPart) *CalibrationPart {
	t.Helper()
	data, err := p.Encode()
	require.NoError(t, err)
	again, err := DecodeCalibrationPart(name, data)
	require.NoError(t, err)
	return again
}

func TestMergeCalibration(t *testing.T) {
	whole := calibrated(t, Shard{0, 1})
	whole.file = ""
	for _, n := range []int{1, 2, 5} {
		var parts []*CalibrationPart
		for i := range n {
			parts = append(parts, calibrated(t, Shard{n - 1 - i, n}))
		}
		merged, err := MergeCalibration(parts)
		require.NoError(t, err)
		require.Equal(t, whole, merged)
	}
	part := func(i int, change func(*CalibrationPart)) *CalibrationPart {
		p := calibrated(t, Shard{i, 2})
		change(p)
		return p
	}
	same := func(*CalibrationPart) {}
	for want, parts := range map[string][]*CalibrationPart{
		"no parts": nil,
		"batches 2 to 4 of 5 are in none of the 1 parts":  {part(0, same)},
		"batches 0 to 1 are both":                         {part(0, same), part(0, same), part(1, same)},
		"model of part 0/2":                               {part(0, same), part(1, func(p *CalibrationPart) { p.Model = "n" })},
		"has batches of 10 images, part 1/2 of 11":        {part(0, same), part(1, func(p *CalibrationPart) { p.Batch = 11 })},
		"part 0/2 has 2 sub-networks, part 1/2 has 1":     {part(0, same), part(1, func(p *CalibrationPart) { p.Subnets = p.Subnets[:1] })},
		`subnets[1] of part 0/2 is "b", that of part 1/2`: {part(0, same), part(1, func(p *CalibrationPart) { p.Subnets[1].Subnet = "c" })},
	} {
		_, err := MergeCalibration(parts)
		require.ErrorContains(t, err, want)
		require.ErrorIs(t, err, ErrPart)
	}
	for want, change := range map[string]func(*CalibrationPart){
		"47 images in batches of 0":               func(p *CalibrationPart) { p.Batch = 0 },
		"0 images in batches of 10":               func(p *CalibrationPart) { p.Images = 0 },
		"batches 2 to 4 of 2":                     func(p *CalibrationPart) { p.Images = 20 },
		"no subnets":                              func(p *CalibrationPart) { p.Subnets = nil },
		"subnets[1] has 2 batches, expected 3":    func(p *CalibrationPart) { p.Subnets[1].Batches = p.Subnets[1].Batches[1:] },
		"batch 4 has 8 images, expected 7":        func(p *CalibrationPart) { p.Subnets[0].Batches[2].Images = 8 },
		"list 1 has NaN, expected finite numbers": func(p *CalibrationPart) { p.Subnets[0].Batches[2].Mean[1][0] = math.NaN() },
	} {
		data, err := part(1, change).Encode()
		require.NoError(t, err)
		_, err = DecodeCalibrationPart("x.json", data)
		require.ErrorContains(t, err, want)
	}
}

func TestShardsCoverAllOnce(t *testing.T) {
	for _, n := range []int{1, 2, 3, 7, 10} {
		next := 0
		for i := range n {
			from, to := Shard{i, n}.Range(10)
			require.Equal(t, next, from)
			require.InDelta(t, 10.0/float64(n), float64(to-from), 1)
			next = to
		}
		require.Equal(t, 10, next)
	}
	for text, want := range map[string]string{
		"": "expected i/n", "3": "expected i/n", "a/b": "expected i/n", "1/2/3": "expected i/n", "4/4": "expected 0/4 to 3/4", "-1/4": "expected 0/4",
		"0/0": "expected 1 to", "0/99999999": "expected 1 to",
	} {
		_, err := ParseShard(text)
		require.ErrorContains(t, err, want, "%q", text)
	}
	s, err := ParseShard("3/4")
	require.NoError(t, err)
	require.Equal(t, Shard{3, 4}, s)
}

func TestShardOfTheEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want Shard
		from string // or part of the error
	}{
		{nil, Shard{}, ""},
		{map[string]string{"DYNOFA_SHARDS": "8"}, Shard{}, ""},
		{map[string]string{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "8"}, Shard{3, 8}, "SLURM_ARRAY_TASK_ID and SLURM_ARRAY_TASK_COUNT"},
		{map[string]string{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "1", "DYNOFA_SHARDS": "8"}, Shard{3, 8}, "SLURM_ARRAY_TASK_ID and DYNOFA_SHARDS"},
		{map[string]string{"SLURM_ARRAY_TASK_ID": "3", "SLURM_ARRAY_TASK_COUNT": "1"}, Shard{}, "set DYNOFA_SHARDS to the number of all"},
		{map[string]string{"SLURM_ARRAY_TASK_ID": "8", "SLURM_ARRAY_TASK_COUNT": "8"}, Shard{}, "number them from 0"},
		{map[string]string{"JOB_COMPLETION_INDEX": "2", "DYNOFA_SHARDS": "4"}, Shard{2, 4}, "JOB_COMPLETION_INDEX and DYNOFA_SHARDS"},
		{map[string]string{"JOB_COMPLETION_INDEX": "2"}, Shard{}, "set DYNOFA_SHARDS, or give --shard"},
		{map[string]string{"JOB_COMPLETION_INDEX": "2", "DYNOFA_SHARDS": "two"}, Shard{}, "expected i/n"},
	} {
		s, from, err := ShardOf(func(name string) string { return c.env[name] })
		require.Equal(t, c.want, s, "%v", c.env)
		if err != nil {
			from = err.Error()
		}
		require.Contains(t, from, c.from)
		require.Equal(t, c.from == "", from == "")
		require.Equal(t, c.want == Shard{} && c.from != "", err != nil)
	}
}

func FuzzPart(f *testing.F) {
	for _, kind := range []string{evaluationKind, calibrationKind} {
		f.Add([]byte(kind), []byte(`{"model":"m","split":"test","data":"d","images":10,"name":"n","batch":5,"from":0,"to":2,`+
			`"levels":[{"level":0,"subnet":"s","top1":1,"top5":2,"predictions":"00000000000000ff"}],`+
			`"subnets":[{"subnet":"s","batches":[{"images":5,"mean":["AAAAAAAA8D8="],"var":["AAAAAAAA8D8="]}]}]}`))
	}
	f.Fuzz(func(t *testing.T, kind, body []byte) {
		_, _ = DecodePart("raw", body)
		_, _ = DecodeCalibrationPart("raw", body)
		if !json.Valid(body) {
			return
		}
		// Behind the right hash, or nothing would get past it.
		file, err := seal(string(kind), json.RawMessage(body))
		if err != nil {
			return
		}
		if p, err := DecodePart("sealed", file); err == nil {
			again, err := reread(t, "again", p).Encode()
			require.NoError(t, err)
			first, err := p.Encode()
			require.NoError(t, err)
			require.True(t, bytes.Equal(first, again))
			_, _ = Merge([]*Part{p, p})
			_, _ = Merge([]*Part{p})
		}
		if p, err := DecodeCalibrationPart("sealed", file); err == nil {
			recalibrated(t, "again", p)
			_, _ = MergeCalibration([]*CalibrationPart{p, p})
			_, _ = MergeCalibration([]*CalibrationPart{p})
		}
	})
}
