package lab_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/dozo-dev/dozo/test/lab"
)

const (
	drbdDevice = "/dev/drbd0"
	blockSize  = 64 << 10
	// blocks is how many blocks the first primary may write, of 128 MiB.
	blocks       = 1500
	beforeTheCut = 150
	afterTheCut  = 50
)

func TestDRBDSurvivesPowerCut(t *testing.T) {
	node := lab.Guest{
		Disks:    []lab.Disk{{Size: 128 << 20}},
		Modules:  []string{"drbd"},
		Programs: []string{"drbdadm", "drbdsetup"},
	}
	left, right := node, node
	left.Name, right.Name = "left", "right"
	n := lab.Network(t, left, right)
	switch {
	case n.Self() == lab.Host:
		cutAndReboot(t, n)
	case n.Self() == "right":
		takeOver(t, n)
	case n.Boots() == 1:
		writeUntilCut(t, n)
	default:
		rejoin(t, n)
	}
}

// cutAndReboot is the host's part.
func cutAndReboot(t *testing.T, n *lab.Net) {
	for acked := 0; acked < beforeTheCut; time.Sleep(20 * time.Millisecond) {
		acked = number(t, n.Get("acked", 2*time.Minute))
	}
	n.Cut("left")
	n.Put("left-is-off", "")
	n.Get("taken-over", 2*time.Minute)
	n.Boot("left")
	n.Wait()
	t.Log(n.Get("latency", time.Second))
}

// writeUntilCut is the part of the first primary, until its power is cut.
func writeUntilCut(t *testing.T, n *lab.Net) {
	createResource(t, n)
	lab.Output(t, "drbdadm", "up", "r0")
	awaitDRBD(t, "cstate", "Connected")
	lab.Output(t, "drbdadm", "new-current-uuid", "--clear-bitmap", "r0/0")
	awaitDRBD(t, "dstate", "UpToDate/UpToDate")
	lab.Output(t, "drbdadm", "primary", "r0")

	var took []time.Duration
	device := openDevice(t)
	defer device.Close()
	for seq := range blocks {
		start := time.Now()
		writeBlock(t, device, seq)
		took = append(took, time.Since(start))
		n.Put("latency", summary(took))
		n.Put("acked", strconv.Itoa(seq+1))
	}
	n.Halt()
}

// takeOver is the part of the secondary that becomes primary.
func takeOver(t *testing.T, n *lab.Net) {
	createResource(t, n)
	lab.Output(t, "drbdadm", "up", "r0")
	n.Get("left-is-off", 4*time.Minute)
	acked := number(t, n.Get("acked", time.Second))
	eventually(t, time.Minute, func() string {
		if state := drbdState(t, "cstate"); state == "Connected" {
			return "the lost peer has not been noticed"
		}
		return ""
	})
	lab.Output(t, "drbdadm", "primary", "r0")
	device := openDevice(t)
	checkBlocks(t, device, acked)
	for seq := acked; seq < acked+afterTheCut; seq++ {
		writeBlock(t, device, seq)
	}
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	n.Put("taken-over", "")
	n.Get("left-is-back", 2*time.Minute)
	lab.Output(t, "drbdadm", "secondary", "r0")
	n.Put("right-is-secondary", strconv.Itoa(acked+afterTheCut))
	n.Get("left-has-it", time.Minute)
	lab.Output(t, "drbdadm", "down", "r0")
}

// rejoin is the part of the first primary after its power came back.
func rejoin(t *testing.T, n *lab.Net) {
	writeConfig(t, n)
	lab.Output(t, "drbdadm", "up", "r0")
	awaitDRBD(t, "dstate", "UpToDate/UpToDate")
	n.Put("left-is-back", "")
	written := number(t, n.Get("right-is-secondary", time.Minute))
	lab.Output(t, "drbdadm", "primary", "r0")
	device := openDevice(t)
	checkBlocks(t, device, written)
	if err := device.Close(); err != nil {
		t.Fatal(err)
	}
	lab.Output(t, "drbdadm", "down", "r0")
	n.Put("left-has-it", "")
}

// createResource writes the configuration and the meta data.
func createResource(t *testing.T, n *lab.Net) {
	t.Helper()
	writeConfig(t, n)
	lab.Output(t, "drbdadm", "create-md", "--force", "r0")
}

func writeConfig(t *testing.T, n *lab.Net) {
	t.Helper()
	text := fmt.Sprintf(`global { usage-count no; }
resource r0 {
	net { protocol C; ping-int 2; connect-int 1; }
	disk { c-plan-ahead 0; resync-rate 100M; }
	device minor 0;
	disk %s;
	meta-disk internal;
	on left { address %v:7789; }
	on right { address %v:7789; }
}
`, lab.DiskPath(0), n.IP("left"), n.IP("right"))
	if err := os.WriteFile("/etc/drbd.conf", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// drbdState asks for cstate, dstate or role.
func drbdState(t *testing.T, what string) string {
	t.Helper()
	return strings.TrimSpace(lab.Output(t, "drbdadm", what, "r0"))
}

func awaitDRBD(t *testing.T, what, want string) {
	t.Helper()
	eventually(t, time.Minute, func() string {
		if got := drbdState(t, what); got != want {
			return fmt.Sprintf("%s is %s, want %s", what, got, want)
		}
		return ""
	})
}

func openDevice(t *testing.T) *os.File {
	t.Helper()
	device, err := os.OpenFile(drbdDevice, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	return device
}

// block is a block's content: its number and checksum, then bytes that follow
// from the number.
func block(seq int) []byte {
	data := make([]byte, blockSize)
	for i := 64; i < len(data); i++ {
		data[i] = byte(seq*31 + i)
	}
	binary.BigEndian.PutUint64(data, uint64(seq))
	sum := sha256.Sum256(data[64:])
	copy(data[8:], sum[:])
	return data
}

// writeBlock writes a block and waits until both nodes have it on disk.
func writeBlock(t *testing.T, device *os.File, seq int) {
	t.Helper()
	if _, err := device.WriteAt(block(seq), int64(seq)*blockSize); err != nil {
		t.Fatal(err)
	}
	if err := device.Sync(); err != nil {
		t.Fatal(err)
	}
}

// checkBlocks reads what must have survived.
func checkBlocks(t *testing.T, device *os.File, count int) {
	t.Helper()
	data := make([]byte, blockSize)
	for seq := range count {
		if _, err := device.ReadAt(data, int64(seq)*blockSize); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, block(seq)) {
			t.Fatalf("block %d of %d was acknowledged and is lost", seq, count)
		}
	}
	t.Logf("all %d acknowledged blocks are there", count)
}

// summary tells how long replicated writes took.
func summary(took []time.Duration) string {
	sorted := slices.Sorted(slices.Values(took))
	at := func(percent int) time.Duration {
		return sorted[(len(sorted)-1)*percent/100].Round(10 * time.Microsecond)
	}
	return fmt.Sprintf("%d replicated writes of %d KiB: median %v, 99%% %v, longest %v",
		len(took), blockSize>>10, at(50), at(99), at(100))
}

func number(t *testing.T, text string) int {
	t.Helper()
	value, err := strconv.Atoi(text)
	if err != nil {
		t.Fatal(err)
	}
	return value
}
