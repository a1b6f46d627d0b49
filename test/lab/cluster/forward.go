package cluster

import (
	"io"
	"net"
)

// forward copies between connections to listener and new ones to address. The
// listener was made in the host's network namespace and handed in; address is
// dialled in the caller's. That is how the host reaches the API server without
// an interface that could outlive the lab.
func forward(listener net.Listener, address string) error {
	for {
		client, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer client.Close()
			server, err := net.Dial("tcp", address)
			if err != nil {
				return
			}
			defer server.Close()
			splice(client, server)
		}()
	}
}

// splice ends when either side has: the API's clients keep no half-open
// connections.
func splice(a, b net.Conn) {
	done := make(chan struct{}, 2)
	copyTo := func(dst, src net.Conn) {
		io.Copy(dst, src) // an error here means that a peer went away
		done <- struct{}{}
	}
	go copyTo(a, b)
	go copyTo(b, a)
	<-done
}
