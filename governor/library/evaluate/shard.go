package evaluate

import (
	"fmt"
	"strconv"
	"strings"
)

// Shard is one of several processes that share a job: number Index, from 0 on, of Count.
type Shard struct{ Index, Count int }

// maxShards bounds what a slip of the hand can ask for.
const maxShards = 1 << 20

// ParseShard reads "i/n", 0/n to (n-1)/n.
func ParseShard(text string) (Shard, error) {
	index, count, found := strings.Cut(text, "/")
	i, err1 := strconv.Atoi(index)
	n, err2 := strconv.Atoi(count)
	if !found || err1 != nil || err2 != nil {
		return Shard{}, fmt.Errorf("shard is %.40q, expected i/n such as 0/8", text)
	}
	s := Shard{i, n}
	return s, s.check()
}

func (s Shard) check() error {
	if s.Count < 1 || s.Count > maxShards {
		return fmt.Errorf("shard is %v, expected 1 to %d shards", s, maxShards)
	}
	if s.Index < 0 || s.Index >= s.Count {
		return fmt.Errorf("shard is %v, expected 0/%d to %d/%d", s, s.Count, s.Count-1, s.Count)
	}
	return nil
}

func (s Shard) String() string { return fmt.Sprintf("%d/%d", s.Index, s.Count) }

// Range is the shard's part of n things: from..to-1. Sizes differ by at most one.
func (s Shard) Range(n int) (from, to int) { return s.Index * n / s.Count, (s.Index + 1) * n / s.Count }

// ShardsVariable is the environment variable with the number of shards, for schedulers that do not tell it.
const ShardsVariable = "DYNOFA_SHARDS"

// ShardOf finds the shard in the environment of a Slurm array job (SLURM_ARRAY_TASK_ID, SLURM_ARRAY_TASK_COUNT) or
// of a Kubernetes indexed job (JOB_COMPLETION_INDEX). Kubernetes does not tell how many there are, and Slurm tells
// how many were submitted this time, which is not the number of all where some are submitted again:
// [ShardsVariable] does. from says which variables were read; it is empty where no job was found.
func ShardOf(getenv func(string) string) (s Shard, from string, err error) {
	for _, job := range []struct{ index, count string }{
		{"SLURM_ARRAY_TASK_ID", "SLURM_ARRAY_TASK_COUNT"},
		{"JOB_COMPLETION_INDEX", ""},
	} {
		if getenv(job.index) == "" {
			continue
		}
		count := ShardsVariable
		if getenv(count) == "" {
			count = job.count
		}
		if count == "" || getenv(count) == "" {
			return s, "", fmt.Errorf("%s is set to %.40q, but the number of shards is not: set %s, or give --shard", job.index, getenv(job.index), ShardsVariable)
		}
		from = job.index + " and " + count
		s, err = ParseShard(getenv(job.index) + "/" + getenv(count))
		if err != nil && count == job.count {
			err = fmt.Errorf("%w; %s counts only what was submitted this time, from whatever number on: set %s to the number of all, and number them from 0",
				err, job.count, ShardsVariable)
		}
		if err != nil {
			return Shard{}, "", fmt.Errorf("%s: %w", from, err)
		}
		return s, from, nil
	}
	return Shard{}, "", nil
}
