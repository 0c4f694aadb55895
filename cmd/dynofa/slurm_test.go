package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alecthomas/kong"
	"github.com/stretchr/testify/require"
	"go.yaml.in/yaml/v3"
)

const recipes = "../../governor/library/evaluate/recipes/"

// job is what the recipes use of a Kubernetes job.
type job struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string
	Metadata   struct{ Name string }
	Spec       struct {
		CompletionMode string `yaml:"completionMode"`
		Completions    int
		Parallelism    int
		BackoffLimit   int `yaml:"backoffLimit"`
		Template       struct {
			Spec struct {
				RestartPolicy string `yaml:"restartPolicy"`
				Containers    []struct {
					Name, Image   string
					Command, Args []string
					Env           []struct{ Name, Value string }
					Resources     struct{ Requests, Limits map[string]string }
					VolumeMounts  []struct {
						Name      string
						MountPath string `yaml:"mountPath"`
						ReadOnly  bool   `yaml:"readOnly"`
					} `yaml:"volumeMounts"`
				}
				Volumes []struct {
					Name  string
					Claim struct {
						Name string `yaml:"claimName"`
					} `yaml:"persistentVolumeClaim"`
				}
			}
		}
	}
}

func TestKubernetesRecipes(t *testing.T) {
	for file, indexed := range map[string]bool{"kubernetes.yaml": true, "kubernetes-merge.yaml": false} {
		text, err := os.ReadFile(recipes + file)
		require.NoError(t, err)
		d := yaml.NewDecoder(bytes.NewReader(text))
		d.KnownFields(true)
		var j job
		require.NoError(t, d.Decode(&j), file)
		require.ErrorIs(t, d.Decode(&job{}), io.EOF)
		require.Equal(t, "batch/v1 Job", j.APIVersion+" "+j.Kind)
		require.Equal(t, "Never", j.Spec.Template.Spec.RestartPolicy)
		c := j.Spec.Template.Spec.Containers[0]
		require.Equal(t, j.Spec.Template.Spec.Volumes[0].Name, c.VolumeMounts[0].Name)
		if indexed {
			require.Equal(t, "Indexed", j.Spec.CompletionMode)
			require.Equal(t, "DYNOFA_SHARDS", c.Env[0].Name)
			require.Equal(t, fmt.Sprint(j.Spec.Completions), c.Env[0].Value)
		}
		parses(t, c.Args[0])
	}
}

// parses checks that this command takes the arguments of a line of shell, after "dynofa".
func parses(t *testing.T, line string) {
	t.Helper()
	_, line, found := strings.Cut(line, "exec dynofa ")
	require.True(t, found, "%q does not end in the command", line)
	parser, err := kong.New(&cli{}, kong.Bind(&env{}), lists(), kong.Exit(func(int) {}))
	require.NoError(t, err)
	_, err = parser.Parse(strings.Fields(strings.ReplaceAll(line, `"`, "")))
	require.NoError(t, err, line)
}

func TestSlurmRecipe(t *testing.T) {
	text, err := os.ReadFile(recipes + "slurm.sh")
	require.NoError(t, err)
	number := func(pattern string) int {
		m := regexp.MustCompile(pattern).FindSubmatch(text)
		require.NotNil(t, m, pattern)
		n, err := strconv.Atoi(string(m[1]))
		require.NoError(t, err)
		return n
	}
	require.Equal(t, number(`DYNOFA_SHARDS=(\d+)`)-1, number(`--array=0-(\d+)`))
	parses(t, strings.Replace(string(text[bytes.LastIndex(text, []byte("exec ")):]), `"${DYNOFA:-dynofa}"`, "dynofa", 1))
}

// A real Slurm on this machine runs the recipe; one task fails and is submitted again.
func TestSlurm(t *testing.T) {
	if os.Getenv("DYNOFA_SLURM") == "" {
		t.Skip("SKIPPED: DYNOFA_SLURM is not set: the recipe for Slurm is not run (it needs root, slurmctld, slurmd, slurm-client and munge)")
	}
	dir, model, data := withLevels(t)
	s := startSlurm(t, filepath.Join(dir, "slurm"))
	jobs := filepath.Join(dir, "jobs")
	require.NoError(t, os.MkdirAll(jobs, 0o755))
	script, err := filepath.Abs(recipes + "slurm.sh")
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	// Task 3 fails as long as the file is there.
	broken := filepath.Join(dir, "broken")
	require.NoError(t, os.WriteFile(broken, nil, 0o600))
	wrapper := filepath.Join(dir, "dynofa")
	require.NoError(t, os.WriteFile(wrapper, fmt.Appendf(nil,
		"#!/bin/sh\n[ \"$SLURM_ARRAY_TASK_ID\" = 3 ] && [ -e %s ] && kill -9 $$\nDYNOFA_TEST_COMMAND=1 exec %s \"$@\"\n", broken, self), 0o700))
	submit := func(array ...string) ([]byte, error) {
		c := s.command("sbatch", append(append([]string{"--wait"}, array...), script)...)
		c.Dir = jobs
		c.Env = append(c.Env, "MODEL="+model, "DATA="+data, "DYNOFA="+wrapper)
		return c.CombinedOutput()
	}
	merge := func() (int, string, string) {
		parts, err := filepath.Glob(filepath.Join(jobs, "parts", "*.json"))
		require.NoError(t, err)
		return command(append([]string{"eval", "merge", "--json"}, parts...)...)
	}

	out, err := submit()
	require.Error(t, err, "a task was killed: %s", out)
	require.NoFileExists(t, filepath.Join(jobs, "parts", "3.json"))
	code, _, errs := merge()
	require.Equal(t, exitUsage, code)
	require.Contains(t, errs, "images 22 to 29 of 60 are in none of the 7 parts")

	require.NoError(t, os.Remove(broken))
	out, err = submit("--array=3")
	require.NoError(t, err, "%s", out)
	log, err := os.ReadFile(filepath.Join(jobs, "eval-3.log"))
	require.NoError(t, err)
	require.Contains(t, string(log), "dynofa: shard 3/8, from SLURM_ARRAY_TASK_ID and DYNOFA_SHARDS")

	code, merged, errs := merge()
	require.Zero(t, code, errs)
	var sharded, whole evalReport
	require.NoError(t, json.Unmarshal([]byte(merged), &sharded))
	require.NoError(t, json.Unmarshal([]byte(succeed(t, "eval", model, "--data", data, "--json")), &whole))
	for i, l := range whole.Levels {
		require.Equal(t, l.Result, sharded.Levels[i].Result)
	}
	t.Logf("8 tasks, one killed and submitted again: %s", merged)
}

// slurm is a cluster of two nodes on this machine.
type slurm struct {
	conf string
	env  []string
}

func (s *slurm) command(name string, args ...string) *exec.Cmd {
	c := exec.Command(name, args...)
	c.Env = append(os.Environ(), s.env...)
	return c
}

func startSlurm(t *testing.T, dir string) *slurm {
	t.Helper()
	for _, name := range []string{"munged", "slurmctld", "slurmd", "sbatch"} {
		if _, err := exec.LookPath(name); err != nil {
			t.Fatalf("DYNOFA_SLURM is set, but there is no %s: apt-get install slurmctld slurmd slurm-client munge", name)
		}
	}
	for _, sub := range []string{"", "state", "n0", "n1"} {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, sub), 0o755))
	}
	require.NoError(t, os.Chmod(filepath.Dir(dir), 0o755)) // munge wants no folder that others may change
	host, err := os.Hostname()
	require.NoError(t, err)
	host, _, _ = strings.Cut(host, ".")
	conf := filepath.Join(dir, "slurm.conf")
	socket := filepath.Join(dir, "munge.socket")
	require.NoError(t, os.WriteFile(conf, fmt.Appendf(nil, `ClusterName=dynofa
SlurmctldHost=%[1]s(127.0.0.1)
SlurmctldPort=%[2]d
AuthType=auth/munge
AuthInfo=socket=%[3]s
CredType=cred/munge
SlurmUser=root
SlurmdUser=root
StateSaveLocation=%[4]s/state
SlurmdSpoolDir=%[4]s/%%n
SlurmctldPidFile=%[4]s/slurmctld.pid
SlurmdPidFile=%[4]s/%%n.pid
SlurmctldLogFile=%[4]s/slurmctld.log
SlurmdLogFile=%[4]s/%%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
MpiDefault=none
ReturnToService=2
SwitchType=switch/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
NodeName=n0 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[5]d CPUs=1 State=UNKNOWN
NodeName=n1 NodeHostname=%[1]s NodeAddr=127.0.0.1 Port=%[6]d CPUs=1 State=UNKNOWN
PartitionName=all Nodes=n0,n1 Default=YES MaxTime=INFINITE State=UP
`, host, freePort(t), socket, dir, freePort(t), freePort(t)), 0o600))
	key := filepath.Join(dir, "munge.key")
	require.NoError(t, os.WriteFile(key, bytes.Repeat([]byte("k"), 128), 0o400))
	s := &slurm{conf: conf, env: []string{"SLURM_CONF=" + conf}}
	s.daemon(t, "munged", "--foreground", "--force", "--key-file="+key, "--socket="+socket, "--pid-file="+filepath.Join(dir, "munge.pid"),
		"--log-file="+filepath.Join(dir, "munge.log"), "--seed-file="+filepath.Join(dir, "munge.seed"))
	s.until(t, dir, func() bool { _, err := os.Stat(socket); return err == nil })
	s.daemon(t, "slurmctld", "-D", "-f", conf)
	for _, node := range []string{"n0", "n1"} {
		s.daemon(t, "slurmd", "-D", "-N", node, "-f", conf)
	}
	s.until(t, dir, func() bool {
		out, _ := s.command("sinfo", "--noheader", "--format=%T %D").Output()
		return strings.TrimSpace(string(out)) == "idle 2"
	})
	return s
}

// daemon starts a process that ends with the test.
func (s *slurm) daemon(t *testing.T, name string, args ...string) {
	t.Helper()
	c := s.command(name, args...)
	require.NoError(t, c.Start())
	t.Cleanup(func() {
		_ = c.Process.Signal(os.Interrupt)
		_ = c.Wait()
	})
}

func (s *slurm) until(t *testing.T, dir string, ready func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !ready(); time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
			for _, log := range logs {
				text, _ := os.ReadFile(log)
				t.Logf("%s:\n%s", log, text[max(0, len(text)-2000):])
			}
			t.Fatal("Slurm did not start in 30 s")
		}
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	addr, ok := l.Addr().(*net.TCPAddr)
	require.True(t, ok)
	return addr.Port
}
