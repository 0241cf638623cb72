package bent

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
)

// Conn is an established connection. Read and Write may be called at the same time. Its deadlines
// are those of the connection beneath.
type Conn struct {
	net.Conn
	rec   *records
	state State
	fail  func(error) error   // sends the alert that an error calls for
	data  []byte              // received and not yet read
	ended error               // what every further Read returns
	keep  func(newTicket) any // makes a session of a ticket; nil at a server

	mu      sync.Mutex
	session any
}

// State returns what the handshake agreed on. Its slices are shared and must not be changed.
func (c *Conn) State() State { return c.state }

// Session returns what ClientConfig.Session takes to resume, nil until a ticket came. Tickets come
// with the data of the server: they are noticed by Read.
func (c *Conn) Session() any {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.session
}

// Read returns received data; io.EOF after the peer's close_notify.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for range maxEmpty {
		if len(c.data) > 0 {
			n := copy(p, c.data)
			c.data = c.data[n:]
			return n, nil
		}
		if c.ended != nil {
			return 0, c.ended
		}
		if err := c.fill(); err != nil {
			return 0, c.end(err)
		}
	}
	return 0, c.end(refuse(alertUnexpectedMessage, "too many records without data"))
}

// end keeps an error for later reads. A deadline may be moved, so it does not last.
func (c *Conn) end(err error) error {
	var wait net.Error
	if errors.As(err, &wait) && wait.Timeout() {
		return err
	}
	var refused *AlertError
	if errors.As(err, &refused) && refused.Sent {
		err = c.fail(err)
	}
	c.ended = err
	return err
}

// fill takes the next record: data, or messages after the handshake.
func (c *Conn) fill() error {
	typ, _, content, err := c.rec.record()
	switch {
	case err != nil:
		return err
	case typ == typeData && len(c.rec.hand) > 0:
		return refuse(alertUnexpectedMessage, "data inside a handshake message")
	case typ == typeData:
		c.data = content
		return nil
	case len(content) == 0:
		return refuse(alertUnexpectedMessage, "empty handshake record")
	}
	c.rec.hand = append(c.rec.hand, content...)
	for {
		msg, err := c.rec.take()
		if msg == nil || err != nil {
			return err
		}
		if err := c.after(msg); err != nil {
			return err
		}
	}
}

// after handles a message that comes after the handshake, RFC 9846 section 4.7.
func (c *Conn) after(msg []byte) error {
	switch {
	case msg[0] == msgKeyUpdate:
		return c.updateKeys(msg)
	case msg[0] == msgNewSessionTicket && c.keep != nil:
		ticket, err := parseNewTicket(msg)
		if err != nil {
			return err
		}
		c.mu.Lock()
		defer c.mu.Unlock()
		if ticket.lifetime > 0 {
			c.session = c.keep(ticket)
		}
		return nil
	}
	return refuse(alertUnexpectedMessage, "message of type %d after the handshake", msg[0])
}

func (c *Conn) updateKeys(msg []byte) error {
	s := cryptobyte.String(msg[4:])
	var asked uint8
	if !s.ReadUint8(&asked) || !s.Empty() {
		return malformed("KeyUpdate")
	}
	if asked > 1 {
		return refuse(alertIllegalParameter, "KeyUpdate with request %d", asked)
	}
	if err := c.rec.read(c.rec.in.next()); err != nil {
		return err
	}
	if asked == 0 {
		return nil
	}
	c.rec.mu.Lock()
	defer c.rec.mu.Unlock()
	c.rec.add(typeHandshake, message(msgKeyUpdate, func(b *cryptobyte.Builder) { b.AddUint8(0) }))
	err := c.rec.flushLocked()
	c.rec.out = c.rec.out.next()
	return err
}

// Write sends data.
func (c *Conn) Write(p []byte) (int, error) {
	for rest := range slices.Chunk(p, maxPlain) {
		if err := c.rec.send(typeData, rest); err != nil {
			return 0, err
		}
	}
	return len(p), nil
}

// Close sends close_notify, for at most a second, and closes.
func (c *Conn) Close() error {
	_ = c.Conn.SetWriteDeadline(time.Now().Add(time.Second))
	_ = c.rec.alert(alertCloseNotify) // the peer may be gone
	return c.Conn.Close()
}

// echo sends back what comes until close_notify or the end of the stream.
func (c *Conn) echo() error {
	buf := make([]byte, maxPlain)
	for {
		if err := c.Conn.SetDeadline(time.Now().Add(echoIdle)); err != nil {
			return err
		}
		n, err := c.Read(buf)
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return err
		}
		if _, err := c.Write(buf[:n]); err != nil {
			return err
		}
	}
}
