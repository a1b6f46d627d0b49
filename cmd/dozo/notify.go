package main

import (
	"log/slog"
	"net"
	"os"
)

// notify tells systemd how a service with Type=notify gets on (sd_notify(3)): one datagram to the
// socket that it names. Without systemd there is none.
func notify(log *slog.Logger, state string) {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"}) // a leading @ is an abstract name
	if err == nil {
		_, err = c.Write([]byte(state))
		_ = c.Close() // a datagram is sent when it is written
	}
	if err != nil {
		log.Warn("systemd was not told", "state", state, "error", err)
	}
}
