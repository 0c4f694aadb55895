// Package cgroup reads what our cgroup (version 2) and its parents leave us of the CPUs:
//
//   - cpu.max, "quota period" in microseconds or "max period": quota over period is a number of CPUs. The smallest one
//     on the way up counts.
//   - cpu.stat, throttled_usec: how long the quota stopped us, summed over CPUs; the largest share on the way up
//     counts, at most 1.
//   - cpuset.cpus.effective: a list of CPUs.
//
// Our group is the line "0::/path" of /proc/self/cgroup; where that is mounted comes from /proc/self/mountinfo. Both are
// looked at again every five seconds, because processes get moved.
package cgroup

import (
	"bytes"
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/dynofa/dynofa/governor/sensor/internal/source"
	"github.com/dynofa/dynofa/governor/sensor/internal/sysfs"
)

var (
	errNoGroup = fmt.Errorf("no cgroup of version 2: %w", sysfs.ErrNoNode)
	errNoQuota = fmt.Errorf("no quota: %w", sysfs.ErrNoNode)
)

// Sensor reads our cgroup and those above it.
type Sensor struct {
	root           string
	cgroup, mounts *sysfs.File
	find           sysfs.Timer
	dir            string
	levels         []*level // ours first
	cpuset         *sysfs.File
	set            sysfs.CPUs
	rows           [3]source.Row
}

// level is one cgroup.
type level struct {
	max, stat *sysfs.File
	throttled source.Counter
}

// New reads below root.
func New(root string) *Sensor {
	s := &Sensor{root: root, cgroup: sysfs.At(root, "proc/self/cgroup"), mounts: sysfs.At(root, "proc/self/mountinfo")}
	s.rows = [3]source.Row{
		{Name: "quota", Field: source.Cores},
		{Name: "cpuset", Field: source.Cores},
		{Name: "throttled", Field: source.Throttled},
	}
	for i := range s.rows {
		s.rows[i].Path = s.cgroup.Path
	}
	return s
}

// Read reads the limits and the counters.
func (s *Sensor) Read(now time.Duration) []source.Row {
	if s.find.Due(now, 5*sysfs.Again) {
		s.locate(now)
	}
	if len(s.levels) == 0 {
		for i := range s.rows {
			s.rows[i].Set(now, 0, errNoGroup)
		}
		return s.rows[:]
	}
	cores, err := s.quota(now)
	s.rows[0].Set(now, cores, err)
	n := 0
	text, err := s.cpuset.Read(now)
	if err == nil {
		if n, err = sysfs.ParseCPUs(text, &s.set); err == nil && n == 0 {
			err = sysfs.ErrFormat
		}
	}
	s.rows[1].Set(now, float64(n), err)
	share, err := s.throttled(now)
	s.rows[2].Set(now, share, err)
	return s.rows[:]
}

// quota is the smallest number of CPUs on the way up. An unreadable limit hides the others only if there is none.
func (s *Sensor) quota(now time.Duration) (float64, error) {
	cores, none := 0.0, error(errNoQuota)
	for _, l := range s.levels {
		text, err := l.max.Read(now)
		var limit float64
		if err == nil {
			limit, err = parseMax(text)
		}
		switch {
		case err == nil && limit > 0 && (cores == 0 || limit < cores):
			cores = limit
		case err != nil && sysfs.Condition(err) != sysfs.Condition(errNoQuota):
			none = err
		}
	}
	if cores > 0 {
		return cores, nil
	}
	return 0, none
}

// throttled is the largest share on the way up.
func (s *Sensor) throttled(now time.Duration) (float64, error) {
	share, found, none := 0.0, false, error(errNoQuota)
	for _, l := range s.levels {
		text, err := l.stat.Read(now)
		var usec uint64
		if err == nil {
			usec, err = sysfs.Key(text, "throttled_usec")
		}
		if err != nil {
			l.throttled.Forget()
			if sysfs.Condition(err) != sysfs.Condition(errNoQuota) {
				none = err
			}
			continue
		}
		gained, passed, err := l.throttled.Step(usec, now)
		if err != nil {
			none = err
			continue
		}
		found = true
		share = max(share, source.Share(float64(gained), float64(passed.Microseconds())))
	}
	if found {
		return share, nil
	}
	return 0, none
}

// locate finds our cgroup.
func (s *Sensor) locate(now time.Duration) {
	dir, up := s.where(now)
	if dir == s.dir {
		return
	}
	s.closeLevels()
	s.dir = dir
	for i := range s.rows {
		s.rows[i].Path = s.cgroup.Path
	}
	if dir == "" {
		return
	}
	s.rows[0].Path = sysfs.At(s.root, dir, "cpu.max").Path
	s.rows[1].Path = sysfs.At(s.root, dir, "cpuset.cpus.effective").Path
	s.rows[2].Path = sysfs.At(s.root, dir, "cpu.stat").Path
	s.cpuset = sysfs.At(s.root, dir, "cpuset.cpus.effective")
	for range up + 1 {
		s.levels = append(s.levels, &level{max: sysfs.At(s.root, dir, "cpu.max"), stat: sysfs.At(s.root, dir, "cpu.stat")})
		dir = path.Dir(dir)
	}
}

// where answers the directory of our cgroup and how many levels above it are visible.
func (s *Sensor) where(now time.Duration) (dir string, up int) {
	text, err := s.cgroup.Read(now)
	if err != nil {
		return "", 0
	}
	group, ok := parseGroup(text)
	if !ok {
		return "", 0
	}
	if text, err = s.mounts.ReadAll(now); err != nil {
		return "", 0
	}
	root, mount, ok := parseMount(text)
	if !ok {
		return "", 0
	}
	// In a container the mount may begin at our group, or at one that is not above it as far as we can see. Then
	// what is mounted is all there is.
	below, ok := strings.CutPrefix(group+"/", strings.TrimSuffix(root, "/")+"/")
	if !ok || strings.Contains(below, "../") {
		below = ""
	}
	below = strings.Trim(below, "/")
	if below == "" {
		return mount, 0
	}
	return path.Join(mount, below), strings.Count(below, "/") + 1
}

// parseMax reads "quota period" or "max period": a number of CPUs, 0 without limit.
func parseMax(text []byte) (float64, error) {
	quota, rest := sysfs.Word(text)
	period, err := sysfs.ParseUint(rest)
	if err != nil || period == 0 {
		return 0, sysfs.ErrNumber
	}
	if string(quota) == "max" {
		return 0, nil
	}
	q, err := sysfs.ParseUint(quota)
	if err != nil || q == 0 {
		return 0, sysfs.ErrNumber
	}
	return float64(q) / float64(period), nil
}

// parseGroup finds the line "0::/path" of /proc/self/cgroup.
func parseGroup(text []byte) (string, bool) {
	for len(text) > 0 {
		var line []byte
		line, text = sysfs.Line(text)
		if group, ok := bytes.CutPrefix(line, []byte("0::/")); ok {
			return "/" + string(group), true
		}
	}
	return "", false
}

// parseMount finds the first cgroup of version 2 in /proc/self/mountinfo: the directory of the file system that is
// mounted, and where. (Fields 4 and 5; the type is the first one after " - ".)
func parseMount(text []byte) (root, mount string, ok bool) {
	for len(text) > 0 {
		var line []byte
		line, text = sysfs.Line(text)
		before, after, found := bytes.Cut(line, []byte(" - "))
		if !found || !bytes.HasPrefix(after, []byte("cgroup2 ")) {
			continue
		}
		if fields := strings.Fields(string(before)); len(fields) >= 5 && path.IsAbs(fields[3]) && path.IsAbs(fields[4]) {
			return path.Clean(fields[3]), path.Clean(fields[4]), true
		}
	}
	return "", "", false
}

func (s *Sensor) closeLevels() {
	for _, l := range s.levels {
		l.max.Close()
		l.stat.Close()
	}
	if s.cpuset != nil {
		s.cpuset.Close()
	}
	s.levels, s.cpuset, s.dir = nil, nil, ""
}

// Close closes the files.
func (s *Sensor) Close() {
	s.closeLevels()
	s.cgroup.Close()
	s.mounts.Close()
	s.find = sysfs.Timer{}
}
