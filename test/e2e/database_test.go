package e2e

import (
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// hasDatabase reports whether there is an image of Debian's PostgreSQL.
func hasDatabase(c Can) bool { return os.Getenv("DOZO_E2E_DATABASE") != "" && c.Expand && c.Snapshot }

// database runs PostgreSQL on a volume. While clients change its data, a snapshot is taken, the volume grows and
// the database is killed: what it had confirmed is there when it runs again, and a copy of the snapshot becomes a
// database whose tables agree with each other.
func database(b *bed) {
	b.timed = false
	start := time.Now()
	b.launch(b.claim("data", b.driver.Size), b.postgres("database", "data"), "", "")
	b.awaitSQL("database", "select 1", "1")
	b.t.Logf("from the claim to a database that answers: %v", time.Since(start).Round(time.Second))
	b.exec("database", "sh", "-c", inPostgres+"pgbench --initialize --quiet --scale 2")
	b.exec("database", "sh", "-c", inPostgres+"pgbench --no-vacuum --client 4 --time 3600 >/tmp/pgbench 2>&1 &")
	b.awaitSQL("database", "select count(*) > 100 from pgbench_history", "t")

	b.createSnapshot("snapshot", "data")
	b.grow("data", "database", b.fileSystemSize)
	confirmed := b.number(b.sql("database", "select count(*) from pgbench_history"))
	b.killDatabase("database")

	b.launch(b.claim("copy", b.driver.Larger, from("snapshot.storage.k8s.io", "VolumeSnapshot", "snapshot")), b.postgres("copy", "copy"), "", "")
	b.agrees("copy", 100)
	start = time.Now()
	b.start(b.postgres("again", "data"))
	b.agrees("again", confirmed)
	b.t.Logf("from a new pod to a database that has recovered: %v", time.Since(start).Round(time.Second))
}

// inPostgres is how a shell in the pod finds the programs and reaches the database.
const inPostgres = `PATH=$(echo /usr/lib/postgresql/*/bin):$PATH; export PGHOST=/tmp PGUSER=postgres; `

// postgres describes a pod with a database on a claim's volume.
func (b *bed) postgres(name, claim string) *corev1.Pod {
	return b.pod(name, claim, func(p *corev1.Pod) {
		c := &p.Spec.Containers[0]
		c.Image = os.Getenv("DOZO_E2E_DATABASE")
		c.Command = []string{"sh", "-ec", inPostgres + `
			data=` + dataDir + `/pgdata as="setpriv --reuid=postgres --regid=postgres --init-groups"
			mkdir -p $data; chown postgres $data; chmod 700 $data
			[ -s $data/PG_VERSION ] || $as initdb -D $data
			exec $as postgres -D $data -k /tmp -c listen_addresses= -c max_wal_size=64MB -c min_wal_size=32MB`}
	})
}

// sql runs a query in a pod's database.
func (b *bed) sql(pod, query string) string {
	b.t.Helper()
	out, err := b.trySQL(pod, query)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

func (b *bed) trySQL(pod, query string) (string, error) {
	return b.tryExec(pod, "sh", "-c", inPostgres+`psql --no-psqlrc --tuples-only --no-align --command "$0"`, query)
}

// awaitSQL waits for the answer to a query: a database that recovers does not answer at first.
func (b *bed) awaitSQL(pod, query, want string) {
	b.t.Helper()
	for deadline := time.Now().Add(usualLimit); ; time.Sleep(time.Second) {
		got, err := b.trySQL(pod, query)
		if err == nil && got == want {
			return
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("pod %s: %s says %q, %v; want %s", pod, query, got, err, want)
		}
	}
}

// agrees checks what pgbench promises: each transaction changed an account, a teller and a branch by the same
// amount, and wrote it down. At least so many of them are there.
func (b *bed) agrees(pod string, least int64) {
	b.t.Helper()
	b.awaitSQL(pod, "select 1", "1")
	out := b.sql(pod, `select count(*), sum(delta), (select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
		(select sum(bbalance) from pgbench_branches) from pgbench_history`)
	f := strings.Split(out, "|")
	if len(f) != 5 || f[1] != f[2] || f[1] != f[3] || f[1] != f[4] || b.number(f[0]) < least {
		b.t.Errorf("pod %s: transactions, and the sums of history, accounts, tellers and branches, are %s; the sums have to be the same, and of the former at least %d", pod, out, least)
	}
	b.t.Logf("pod %s: %s transactions, at least %d, and all sums agree", pod, f[0], least)
	b.exec(pod, "sh", "-c", inPostgres+"pg_dumpall >/dev/null") // which reads all there is
}

// killDatabase ends a pod without asking its processes to end, and waits until it is gone.
func (b *bed) killDatabase(pod string) {
	b.t.Helper()
	if _, err := b.tryExec(pod, "pkill", "-KILL", "postgres"); err != nil && !strings.Contains(err.Error(), "137") {
		b.t.Fatal(err) // 137: the container ended, and pkill with it
	}
	b.deletePod(pod)
}
