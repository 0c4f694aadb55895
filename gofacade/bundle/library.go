package bundle

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"path/filepath"
	"strings"

	"github.com/dynofa/dynofa/gofacade/bundle/internal/mapped"
	"github.com/dynofa/dynofa/gofacade/bundle/internal/pickle"
	"github.com/dynofa/dynofa/gofacade/bundle/torch"
	"github.com/dynofa/dynofa/gofacade/ofa"
)

// LibraryLevel is one level of a Dynamic-OFA library as its file has it.
type LibraryLevel struct {
	Subnet    ofa.Subnet
	Top1      float64 // ImageNet top-1 in percent
	LatencyMS float64 // measured latency in milliseconds
	Norms     []LibraryNorm
}

// LibraryNorm is the statistics of one batch normalisation of a LibraryLevel, in the order of Space.Norms.
type LibraryNorm struct {
	Name     string    // canonical, with the supernet's block number
	FileName string    // as in the file: old naming, blocks numbered without gaps
	Mean     []float32 // one per channel
	Var      []float32 // one per channel
	Images   int       // over how many images they were averaged
}

// ImportLibrary appends the levels of a Dynamic-OFA library (nets_*.pickle) to the Contents, their statistics
// folded with the supernet's batch normalisation weights and biases. A library belongs to one supernet: channels
// that differ from those of c.Space are an error that names them. Errors leave the Contents as they are.
func ImportLibrary(path string, c *Contents) error {
	if c == nil || c.Space == nil {
		return fmt.Errorf("bundle: import library %s: %w", path, errNil)
	}
	levels, sum, err := readLibrary(path, c.Space)
	if err != nil {
		return err
	}
	name := filepath.Base(path)
	var add []Level
	for _, l := range levels {
		level := Level{
			Subnet:   l.Subnet,
			Accuracy: []Accuracy{{Data: "ImageNet (from the library file)", Top1: l.Top1}},
			Latency:  []Latency{{Device: "from the library file", MedianMS: l.LatencyMS}},
		}
		level.MACs, level.Params = c.Space.Cost(l.Subnet)
		for _, n := range l.Norms {
			level.Calibration = fmt.Sprintf("statistics of %s, averaged over %d images", name, n.Images)
			weight, bias := c.Tensors[n.Name+".weight"], c.Tensors[n.Name+".bias"]
			if len(weight) < len(n.Mean) || len(bias) < len(n.Mean) {
				return fmt.Errorf("bundle: import library %s: %s of the supernet has %d weights and %d biases, expected at least %d",
					path, n.Name, len(weight), len(bias), len(n.Mean))
			}
			level.Norms = append(level.Norms, ofa.Fold(weight[:len(n.Mean)], bias[:len(n.Mean)], n.Mean, n.Var, c.Space.BNEps))
		}
		add = append(add, level)
	}
	c.Levels = append(c.Levels, add...)
	if c.Provenance.Notes == nil {
		c.Provenance.Notes = map[string]string{}
	}
	c.Provenance.Notes["library "+name] = "sha256 " + sum
	return nil
}

// ReadLibrary reads a Dynamic-OFA library as it is, for the Space of its supernet.
func ReadLibrary(path string, space *ofa.Space) ([]LibraryLevel, error) {
	levels, _, err := readLibrary(path, space)
	return levels, err
}

func readLibrary(path string, space *ofa.Space) (levels []LibraryLevel, sum string, err error) {
	f, err := mapped.Open(path)
	if err != nil {
		return nil, "", fmt.Errorf("bundle: import library: %w", err)
	}
	defer f.Close()
	err = mapped.Guard(func() (err error) {
		hash := sha256.Sum256(f.Bytes())
		sum = hex.EncodeToString(hash[:])
		levels, err = parseLibrary(f.Bytes(), space)
		return err
	})
	if err != nil {
		return nil, "", fmt.Errorf("bundle: import library %s: %w", path, err)
	}
	return levels, sum, nil
}

// parseLibrary reads the pickle: a dict of three parallel lists, configs, accu_lat and bn_lists.
func parseLibrary(data []byte, space *ofa.Space) ([]LibraryLevel, error) {
	classes := torch.Classes()
	classes["ofa.utils.AverageMeter"] = &pickle.Class{Call: newMeter}
	classes["ofa.utils.common_tools.AverageMeter"] = &pickle.Class{Call: newMeter}
	classes["numpy.ndarray"] = &pickle.Class{}
	classes["numpy.dtype"] = &pickle.Class{Call: newDType}
	classes["numpy.core.multiarray._reconstruct"] = &pickle.Class{Call: newArray}
	classes["numpy._core.multiarray._reconstruct"] = &pickle.Class{Call: newArray}
	top, n, err := pickle.Read(data, &pickle.Config{Classes: classes})
	if err != nil {
		return nil, err
	}
	if n != len(data) {
		return nil, fmt.Errorf("%d bytes after the pickle", len(data)-n)
	}
	dict, ok := top.(*pickle.Dict)
	if !ok {
		return nil, fmt.Errorf("top level is %s, expected a dict of configs, accu_lat and bn_lists", pickle.Describe(top))
	}
	var lists [3][]any
	for i, key := range []string{"configs", "accu_lat", "bn_lists"} {
		v, ok := dict.Get(key)
		if ok {
			lists[i], ok = sequence(v)
		}
		if !ok {
			return nil, fmt.Errorf("top level has the keys %s, expected lists configs, accu_lat and bn_lists", strings.Join(dict.Keys(), ", "))
		}
	}
	configs, measured, norms := lists[0], lists[1], lists[2]
	if len(configs) != len(measured) || len(configs) != len(norms) || len(configs) == 0 {
		return nil, fmt.Errorf("%d configs, %d accu_lat and %d bn_lists, expected as many of each", len(configs), len(measured), len(norms))
	}
	// A pickle may name the same statistics for any number of levels; the file's size bounds what that makes.
	budget := len(data)
	levels := make([]LibraryLevel, len(configs))
	for i := range levels {
		l := &levels[i]
		if l.Subnet, err = subnet(configs[i], space); err != nil {
			return nil, fmt.Errorf("configs[%d]: %w", i, err)
		}
		if l.Top1, l.LatencyMS, err = accuracyAndLatency(measured[i]); err != nil {
			return nil, fmt.Errorf("accu_lat[%d]: %w", i, err)
		}
		if l.Norms, err = statistics(norms[i], space, l.Subnet, &budget); err != nil {
			return nil, fmt.Errorf("bn_lists[%d]: %w", i, err)
		}
	}
	return levels, nil
}

// sequence are the items of a list, a tuple or an array of objects.
func sequence(v any) ([]any, bool) {
	switch v := v.(type) {
	case *pickle.List:
		return v.Items, true
	case pickle.Tuple:
		return v, true
	case *array:
		if v.items != nil {
			return v.items.Items, true
		}
	}
	return nil, false
}

// subnet reads a config: a dict of wid (None), ks, e, d and r.
func subnet(v any, space *ofa.Space) (n ofa.Subnet, err error) {
	dict, ok := v.(*pickle.Dict)
	if !ok {
		return n, fmt.Errorf("is %s, expected a dict", pickle.Describe(v))
	}
	if wid, ok := dict.Get("wid"); ok && wid != nil {
		return n, fmt.Errorf("wid is %s, expected None", pickle.Describe(wid))
	}
	var r []int
	for _, field := range []struct {
		key string
		dst *[]int
		max int
	}{{"ks", &n.Kernels, space.Slots()}, {"e", &n.Expands, space.Slots()}, {"d", &n.Depths, len(space.Stages)}, {"r", &r, 1}} {
		v, _ := dict.Get(field.key)
		if *field.dst, err = integers(v, field.max); err != nil {
			return n, fmt.Errorf("%s %w", field.key, err)
		}
	}
	n.Resolution = r[0]
	return n, space.Check(n)
}

func integers(v any, length int) ([]int, error) {
	if _, single := v.(int64); single && length == 1 {
		v = pickle.Tuple{v}
	}
	items, ok := sequence(v)
	if !ok || len(items) != length {
		return nil, fmt.Errorf("is %s, expected a list of %d", pickle.Describe(v), length)
	}
	list := make([]int, length)
	for i, item := range items {
		x, ok := item.(int64)
		if !ok || x != int64(int32(x)) {
			return nil, fmt.Errorf("[%d] is %s, expected a small int", i, pickle.Describe(item))
		}
		list[i] = int(x)
	}
	return list, nil
}

// accuracyAndLatency reads two floats, from an array or a list.
func accuracyAndLatency(v any) (top1, ms float64, err error) {
	pair, ok := floats(v)
	if !ok || len(pair) != 2 {
		return 0, 0, fmt.Errorf("is %s, expected two floats", pickle.Describe(v))
	}
	if !(pair[0] >= 0 && pair[0] <= 100) {
		return 0, 0, fmt.Errorf("accuracy is %v, expected percent from 0 to 100", pair[0])
	}
	if !(pair[1] > 0 && pair[1] <= math.MaxFloat64) {
		return 0, 0, fmt.Errorf("latency is %v, expected milliseconds above 0", pair[1])
	}
	return pair[0], pair[1], nil
}

func floats(v any) ([]float64, bool) {
	if a, ok := v.(*array); ok && a.kind != nil && a.kind.code == "f8" && len(a.raw) == 16 {
		return []float64{
			math.Float64frombits(binary.LittleEndian.Uint64(a.raw)),
			math.Float64frombits(binary.LittleEndian.Uint64(a.raw[8:])),
		}, true
	}
	items, ok := sequence(v)
	if !ok || len(items) != 2 {
		return nil, false
	}
	var list []float64
	for _, item := range items {
		x, ok := item.(float64)
		if !ok {
			return nil, false
		}
		list = append(list, x)
	}
	return list, true
}

// statistics reads an element of bn_lists: one element (or a row of an array) that holds a dict of means and a
// dict of variances, name -> meter.
func statistics(v any, space *ofa.Space, n ofa.Subnet, budget *int) ([]LibraryNorm, error) {
	items, ok := sequence(v)
	if ok && len(items) == 1 {
		items, ok = sequence(items[0])
	}
	if !ok || len(items) != 2 {
		return nil, fmt.Errorf("is %s, expected one pair of dicts, means and variances", pickle.Describe(v))
	}
	means, err := meters(items[0])
	if err != nil {
		return nil, fmt.Errorf("means: %w", err)
	}
	variances, err := meters(items[1])
	if err != nil {
		return nil, fmt.Errorf("variances: %w", err)
	}
	norms := space.Norms(n)
	if len(means) != len(norms) || len(variances) != len(norms) {
		return nil, fmt.Errorf("%d means and %d variances, expected the sub-network's %d", len(means), len(variances), len(norms))
	}
	out := make([]LibraryNorm, len(norms))
	names := extracted(space, n, norms)
	for i, norm := range norms {
		mean, variance := means[names[i]], variances[names[i]]
		if mean == nil || variance == nil {
			return nil, fmt.Errorf("no mean or no variance for %s", names[i])
		}
		*budget -= 2 * 4 * norm.Channels
		if *budget < 0 {
			return nil, errors.New("statistics up to here are larger than the file")
		}
		o := &out[i]
		*o = LibraryNorm{Name: norm.Name, FileName: mean.name, Images: mean.count}
		if o.Mean, err = mean.values(norm.Channels); err != nil {
			return nil, fmt.Errorf("mean of %w", err)
		}
		if o.Var, err = variance.values(norm.Channels); err != nil {
			return nil, fmt.Errorf("variance of %w", err)
		}
		if err := check(mean.name+" (mean)", o.Mean); err != nil {
			return nil, err
		}
		if err := check(mean.name+".running_var", o.Var); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// extracted gives the names that the batch normalisations of a Subnet have in the extracted network: blocks
// numbered without gaps, one bn instead of two.
func extracted(space *ofa.Space, n ofa.Subnet, norms []ofa.Norm) []string {
	names := make([]string, 0, len(norms))
	number := map[string]string{}
	for i, b := range space.Blocks(n) {
		number[b.Name()] = fmt.Sprintf("blocks.%d.conv", i)
	}
	for _, norm := range norms {
		name := norm.Name
		if block, rest, ok := strings.Cut(name, ".conv."); ok {
			name = number[block+".conv"] + "." + rest
		}
		names = append(names, plainNorm(name))
	}
	return names
}

func plainNorm(name string) string {
	if cut, ok := strings.CutSuffix(name, ".bn.bn"); ok {
		return cut + ".bn"
	}
	return name
}

// entry is a named meter.
type entry struct {
	*meter
	name string // as in the file
}

// meters lists a dict of meters by their names in the extracted network, current naming.
func meters(v any) (map[string]*entry, error) {
	dict, ok := v.(*pickle.Dict)
	if !ok {
		return nil, fmt.Errorf("are %s, expected a dict", pickle.Describe(v))
	}
	const most = 1 << 12 // above any Space
	if len(dict.Entries) > most {
		return nil, fmt.Errorf("%d entries, expected at most %d", len(dict.Entries), most)
	}
	m := make(map[string]*entry, len(dict.Entries))
	for _, e := range dict.Entries {
		name, ok1 := e.Key.(string)
		value, ok2 := e.Value.(*meter)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("%s is %s, expected a name and an AverageMeter", pickle.Describe(e.Key), pickle.Describe(e.Value))
		}
		key := plainNorm(strings.ReplaceAll(name, ".mobile_inverted_conv.", ".conv."))
		if m[key] != nil {
			return nil, fmt.Errorf("%.200q is there twice", name)
		}
		m[key] = &entry{value, name}
	}
	return m, nil
}

// meter is ofa.utils.AverageMeter: of its attributes avg and count are used.
type meter struct {
	avg   *torch.Tensor
	count int
}

func newMeter(args pickle.Tuple) (any, error) {
	if len(args) != 0 {
		return nil, fmt.Errorf("has %d arguments, expected none", len(args))
	}
	return &meter{}, nil
}

// Build takes the attributes.
func (m *meter) Build(state any) error {
	dict, ok := state.(*pickle.Dict)
	if !ok {
		return fmt.Errorf("is %s, expected a dict of attributes", pickle.Describe(state))
	}
	avg, _ := dict.Get("avg")
	if m.avg, ok = avg.(*torch.Tensor); !ok {
		return fmt.Errorf("avg is %s, expected a tensor", pickle.Describe(avg))
	}
	count, _ := dict.Get("count")
	images, ok := count.(int64)
	if !ok || images < 0 || images > math.MaxInt32 {
		return fmt.Errorf("count is %s, expected a number of images", pickle.Describe(count))
	}
	m.count = int(images)
	return nil
}

func (e *entry) values(channels int) ([]float32, error) {
	if e.avg == nil {
		return nil, fmt.Errorf("%s is empty", e.name)
	}
	if len(e.avg.Shape) != 1 || e.avg.Shape[0] != channels {
		return nil, fmt.Errorf("%s has the shape %v, expected [%d]: the library belongs to another width", e.name, e.avg.Shape, channels)
	}
	return e.avg.Float32()
}

// dtype is numpy.dtype: a code such as "f8" or "O8".
type dtype struct{ code string }

func newDType(args pickle.Tuple) (any, error) {
	if len(args) == 0 {
		return nil, errors.New("has no arguments, expected a code")
	}
	code, ok := args[0].(string)
	if !ok || code != "f8" && code != "O8" {
		return nil, fmt.Errorf("is %s, expected 'f8' or 'O8'", pickle.Describe(args[0]))
	}
	return &dtype{code}, nil
}

// Build takes the state (version, byte order, ...).
func (d *dtype) Build(state any) error {
	t, ok := state.(pickle.Tuple)
	if !ok || len(t) < 2 {
		return fmt.Errorf("is %s, expected a tuple with the byte order", pickle.Describe(state))
	}
	if order, ok := t[1].(string); !ok || order == ">" {
		return fmt.Errorf("byte order is %s, expected little-endian", pickle.Describe(t[1]))
	}
	return nil
}

// array is numpy.ndarray: raw numbers, or a flat list of objects.
type array struct {
	kind  *dtype
	raw   pickle.Bytes
	items *pickle.List
}

// newArray is numpy.core.multiarray._reconstruct(class, shape, code): an array that waits for its state.
func newArray(pickle.Tuple) (any, error) { return &array{}, nil }

// Build takes the state (version, shape, dtype, is Fortran-ordered, data). Arrays of a library are so small that
// their order does not matter: two floats, or one row of two objects.
func (a *array) Build(state any) error {
	t, ok := state.(pickle.Tuple)
	if !ok || len(t) != 5 {
		return fmt.Errorf("is %s, expected a tuple of length 5", pickle.Describe(state))
	}
	kind, ok := t[2].(*dtype)
	if !ok {
		return fmt.Errorf("dtype is %s, expected a numpy.dtype", pickle.Describe(t[2]))
	}
	a.kind, a.raw, a.items = kind, nil, nil
	switch data := t[4].(type) {
	case pickle.Bytes:
		if kind.code != "f8" {
			return fmt.Errorf("bytes of dtype %s, expected f8", kind.code)
		}
		a.raw = data
	case *pickle.List:
		if kind.code != "O8" {
			return fmt.Errorf("objects of dtype %s, expected O8", kind.code)
		}
		a.items = data
	default:
		return fmt.Errorf("data is %s, expected bytes or a list", pickle.Describe(t[4]))
	}
	return nil
}
