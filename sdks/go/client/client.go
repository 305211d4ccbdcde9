// Package client speaks to a Bungee server over its framed socket, as clients of BunBase Functions do.
//
// A Client is safe for concurrent use. All its calls share one connection, and each is answered as soon as it
// has finished. A connection that broke is made anew by the next call.
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"time"
)

// dialTimeout is how long a connection may take to come about.
const dialTimeout = 5 * time.Second

// ErrClosed is what calls on a closed client get.
var ErrClosed = errors.New("bungee: the client is closed")

// ErrConnectionLost is what a call gets whose connection broke while the server may have been working on it.
// An invocation is not repeated then: it may have run.
var ErrConnectionLost = errors.New("bungee: the connection broke before the answer came")

// Error is a refusal by the server: nothing was run.
type Error struct {
	// Message is one clear sentence.
	Message string `json:"error"`
	// Type is stable, such as FunctionNotFound; docs/errors.md lists them.
	Type string `json:"type"`
	// Hint is the next step, if there is one.
	Hint string `json:"hint"`
}

func (e *Error) Error() string {
	text := "bungee: " + e.Message
	if e.Type != "" {
		text = "bungee: " + e.Type + ": " + e.Message
	}
	if e.Hint != "" {
		text += " (" + e.Hint + ")"
	}
	return text
}

// InvokeError is an invocation that began and failed: the handler threw, ran out of time or memory, or found no worker.
type InvokeError struct {
	// Response is the whole answer, with the id under which the invocation is recorded.
	Response *InvokeResponse
}

func (e *InvokeError) Error() string {
	return fmt.Sprintf("bungee: %s: %s (invocation %s)", e.Response.ErrorType, e.Response.Error, e.Response.ExecutionID)
}

// Option changes how a Client works.
type Option func(*Client)

// WithToken sends a token with every call, as a server on the network asks for.
func WithToken(token string) Option {
	return func(c *Client) { c.token = token }
}

// Client calls the functions of one server.
type Client struct {
	network, address, token string

	mu     sync.Mutex
	conn   *connection
	closed bool
}

// New makes a client of the server behind a Unix socket, or behind "tcp://HOST:PORT".
// It connects with the first call.
func New(address string, options ...Option) *Client {
	c := &Client{network: "unix", address: strings.TrimPrefix(address, "unix:")}
	if rest, ok := strings.CutPrefix(address, "tcp://"); ok {
		c.network, c.address = "tcp", rest
	}
	for _, option := range options {
		option(c)
	}
	return c
}

// Close ends the connection. Calls that wait for an answer get ErrConnectionLost, later ones ErrClosed.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	if c.conn == nil {
		return nil
	}
	c.conn.end(ErrConnectionLost)
	c.conn = nil
	return nil
}

// current is the connection that stands, or a new one.
func (c *Client) current(ctx context.Context) (*connection, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, ErrClosed
	}
	if c.conn != nil && !c.conn.isOver() {
		return c.conn, nil
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	stream, err := dialer.DialContext(ctx, c.network, c.address)
	if err != nil {
		return nil, fmt.Errorf("bungee: no server answers at %s: %w", c.address, err)
	}
	c.conn = newConnection(stream)
	return c.conn, nil
}

// call sends a request and reads its answer. What changes nothing when it is repeated is repeated once on a new connection.
func (c *Client) call(ctx context.Context, command byte, isRepeatable bool, request, answer any) error {
	payload, err := c.encode(request)
	if err != nil {
		return err
	}
	for attempt := 0; ; attempt++ {
		conn, err := c.current(ctx)
		if err != nil {
			return err
		}
		reply, err := conn.ask(ctx, command, payload)
		isLost := errors.Is(err, ErrConnectionLost)
		if attempt == 0 && (errors.Is(err, errUnsent) || (isLost && isRepeatable)) {
			continue
		}
		if errors.Is(err, errUnsent) {
			return ErrConnectionLost
		}
		if err != nil {
			return err
		}
		return decode(reply, answer)
	}
}

// encode writes a request, with the token if there is one.
func (c *Client) encode(request any) ([]byte, error) {
	payload, err := json.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("bungee: the request cannot be written: %w", err)
	}
	if c.token != "" {
		token, err := json.Marshal(c.token)
		if err != nil {
			return nil, fmt.Errorf("bungee: the token cannot be written: %w", err)
		}
		// Every request is an object with at least one field.
		payload = append(payload[:len(payload)-1], `,"token":`...)
		payload = append(append(payload, token...), '}')
	}
	if len(payload) > frameMax-headSize {
		return nil, fmt.Errorf("bungee: the request takes %d bytes, and a frame holds %d", len(payload), frameMax-headSize)
	}
	return payload, nil
}

func decode(reply reply, answer any) error {
	if reply.status != statusOK {
		refusal := &Error{}
		if err := json.Unmarshal(reply.payload, refusal); err != nil {
			return fmt.Errorf("bungee: the server refused in words that cannot be read: %w", err)
		}
		return refusal
	}
	if err := json.Unmarshal(reply.payload, answer); err != nil {
		return fmt.Errorf("bungee: the answer cannot be read: %w", err)
	}
	return nil
}
