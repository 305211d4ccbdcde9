package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
)

const (
	// frameMax is the most that may stand behind a frame's first number.
	frameMax = 16 << 20
	// headSize is what an id, a command and a length take.
	headSize = 13
	statusOK = 0
	// bufferSize lets many small frames leave and arrive in one go.
	bufferSize = 64 << 10
	// queueSize is how many frames may wait to be written.
	queueSize = 64
)

// errUnsent means that no byte of a request reached the server.
var errUnsent = errors.New("the connection was over before the request was sent")

// reply is what a frame brought back.
type reply struct {
	status  byte
	payload []byte
}

// frame is a request on its way out.
type frame struct {
	id      uint64
	command byte
	payload []byte
}

// connection carries many requests at once: one goroutine writes, one reads.
type connection struct {
	stream   net.Conn
	outgoing chan frame
	// over is closed when the connection ends, for whatever reason.
	over chan struct{}

	mu      sync.Mutex
	last    uint64
	waiting map[uint64]chan reply
	why     error
}

func newConnection(stream net.Conn) *connection {
	c := &connection{
		stream:   stream,
		outgoing: make(chan frame, queueSize),
		over:     make(chan struct{}),
		waiting:  map[uint64]chan reply{},
	}
	go c.write()
	go c.read()
	return c
}

func (c *connection) isOver() bool {
	select {
	case <-c.over:
		return true
	default:
		return false
	}
}

// end closes the connection, once; why is what the calls that wait are told.
func (c *connection) end(why error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.why != nil {
		return
	}
	c.why = why
	close(c.over)
	// What closing could say is less than what we know.
	_ = c.stream.Close()
}

// ask sends a request and waits for the reply that bears its id.
func (c *connection) ask(ctx context.Context, command byte, payload []byte) (reply, error) {
	answered := make(chan reply, 1)
	c.mu.Lock()
	c.last++
	id := c.last
	c.waiting[id] = answered
	c.mu.Unlock()
	defer c.forget(id)
	select {
	case <-c.over:
		return reply{}, errUnsent
	default:
	}
	select {
	case c.outgoing <- frame{id, command, payload}:
	case <-c.over:
		return reply{}, errUnsent
	case <-ctx.Done():
		return reply{}, ctx.Err()
	}
	select {
	case got := <-answered:
		return got, nil
	case <-ctx.Done():
		return reply{}, ctx.Err()
	case <-c.over:
		// The reply may have come with the end.
		select {
		case got := <-answered:
			return got, nil
		default:
			c.mu.Lock()
			defer c.mu.Unlock()
			return reply{}, c.why
		}
	}
}

func (c *connection) forget(id uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.waiting, id)
}

// write sends what is asked; whatever waits leaves in one go.
func (c *connection) write() {
	out := bufio.NewWriterSize(c.stream, bufferSize)
	for {
		select {
		case next := <-c.outgoing:
			if err := writeFrame(out, next); err != nil {
				c.lose(err)
				return
			}
		case <-c.over:
			return
		}
		if len(c.outgoing) == 0 {
			if err := out.Flush(); err != nil {
				c.lose(err)
				return
			}
		}
	}
}

func writeFrame(out *bufio.Writer, next frame) error {
	var head [4 + headSize]byte
	binary.LittleEndian.PutUint32(head[0:], uint32(headSize+len(next.payload)))
	binary.LittleEndian.PutUint64(head[4:], next.id)
	head[12] = next.command
	binary.LittleEndian.PutUint32(head[13:], uint32(len(next.payload)))
	if _, err := out.Write(head[:]); err != nil {
		return err
	}
	_, err := out.Write(next.payload)
	return err
}

// read hands each reply to the call that waits for it.
func (c *connection) read() {
	in := bufio.NewReaderSize(c.stream, bufferSize)
	for {
		id, got, err := readFrame(in)
		if err != nil {
			c.lose(err)
			return
		}
		c.mu.Lock()
		answered := c.waiting[id]
		delete(c.waiting, id)
		c.mu.Unlock()
		// Nobody waits for what came too late. A refusal of the connection itself bears no id of ours.
		if answered != nil {
			answered <- got
		} else if id == 0 && got.status != statusOK {
			c.end(decode(got, nil))
			return
		}
	}
}

func readFrame(in io.Reader) (uint64, reply, error) {
	var head [4 + headSize]byte
	if _, err := io.ReadFull(in, head[:]); err != nil {
		return 0, reply{}, err
	}
	rest := binary.LittleEndian.Uint32(head[0:])
	size := binary.LittleEndian.Uint32(head[13:])
	if rest > frameMax || rest != size+headSize {
		return 0, reply{}, fmt.Errorf("a frame of %d bytes with a payload of %d", rest, size)
	}
	got := reply{status: head[12], payload: make([]byte, size)}
	_, err := io.ReadFull(in, got.payload)
	return binary.LittleEndian.Uint64(head[4:]), got, err
}

// lose ends the connection because of an error of the network.
func (c *connection) lose(err error) {
	c.end(fmt.Errorf("%w: %v", ErrConnectionLost, err))
}
