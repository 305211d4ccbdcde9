package client

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// asked is a request as the other side reads it.
type asked struct {
	id      uint64
	command byte
	payload map[string]any
}

// server answers each request of each connection as serve says; a nil answer ends the connection.
func server(t *testing.T, serve func(asked) []byte) (string, *atomic.Int32) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { listener.Close() })
	connections := &atomic.Int32{}
	go func() {
		for {
			stream, err := listener.Accept()
			if err != nil {
				return
			}
			connections.Add(1)
			go converse(stream, serve)
		}
	}()
	return path, connections
}

func converse(stream net.Conn, serve func(asked) []byte) {
	defer stream.Close()
	in := bufio.NewReader(stream)
	var writing sync.Mutex
	for {
		id, got, err := readFrame(in)
		if err != nil {
			return
		}
		request := asked{id: id, command: got.status}
		if err := json.Unmarshal(got.payload, &request.payload); err != nil {
			return
		}
		go func() {
			answer := serve(request)
			writing.Lock()
			defer writing.Unlock()
			if answer == nil {
				stream.Close()
				return
			}
			_, _ = stream.Write(answer)
		}()
	}
}

func answer(id uint64, status byte, payload any) []byte {
	text, err := json.Marshal(payload)
	if err != nil {
		panic(err)
	}
	out := binary.LittleEndian.AppendUint32(nil, uint32(headSize+len(text)))
	out = binary.LittleEndian.AppendUint64(out, id)
	out = append(out, status)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
	return append(out, text...)
}

func TestManyCallsShareOneConnectionAndEachGetsItsOwnAnswer(t *testing.T) {
	path, connections := server(t, func(a asked) []byte {
		// The later it was asked, the sooner it is answered.
		time.Sleep(time.Duration(20-a.id) * time.Millisecond)
		return answer(a.id, statusOK, map[string]any{"success": true, "status": 200, "body": a.payload["body"]})
	})
	client := New(path)
	defer client.Close()
	var group sync.WaitGroup
	for n := 0; n < 20; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			body := fmt.Sprint("number ", n)
			got, err := client.Invoke("echo", &InvokeRequest{Body: []byte(body)})
			if err != nil || string(got.Body) != body {
				t.Errorf("%q got %+v, %v", body, got, err)
			}
		}(n)
	}
	group.Wait()
	if connections.Load() != 1 {
		t.Errorf("%d connections", connections.Load())
	}
}

func TestRefusalsAndFailuresAreErrorsOfTheirOwn(t *testing.T) {
	path, _ := server(t, func(a asked) []byte {
		if a.payload["function_id"] == "nobody" {
			return answer(a.id, 1, map[string]any{"error": "there is no function", "type": "FunctionNotFound", "hint": "look"})
		}
		return answer(a.id, statusOK, map[string]any{"success": false, "status": 502, "error": "boom", "error_type": "HandlerError", "execution_id": "7"})
	})
	client := New(path)
	defer client.Close()
	var refusal *Error
	if _, err := client.Invoke("nobody", nil); !errors.As(err, &refusal) || refusal.Type != "FunctionNotFound" {
		t.Errorf("%v", err)
	}
	var failed *InvokeError
	got, err := client.Invoke("throws", nil)
	if !errors.As(err, &failed) || got == nil || got.Status != 502 || failed.Response.ExecutionID != "7" {
		t.Errorf("%v %v", got, err)
	}
}

func TestAConnectionThatBrokeIsMadeAnew(t *testing.T) {
	var count atomic.Int32
	path, connections := server(t, func(a asked) []byte {
		if count.Add(1) == 2 {
			return nil
		}
		return answer(a.id, statusOK, map[string]any{"success": true, "function_id": "a"})
	})
	client := New(path)
	defer client.Close()
	if _, err := client.Invoke("a", nil); err != nil {
		t.Fatal(err)
	}
	// It may have run, so it is not repeated.
	if _, err := client.Invoke("a", nil); !errors.Is(err, ErrConnectionLost) {
		t.Fatalf("%v", err)
	}
	if _, err := client.Invoke("a", nil); err != nil {
		t.Fatal(err)
	}
	if connections.Load() != 2 || count.Load() != 3 {
		t.Errorf("%d connections, %d requests", connections.Load(), count.Load())
	}
}

func TestWhatChangesNothingIsRepeatedOnce(t *testing.T) {
	var count atomic.Int32
	path, _ := server(t, func(a asked) []byte {
		if count.Add(1) == 1 {
			return nil
		}
		return answer(a.id, statusOK, map[string]any{"function_id": a.payload["name"]})
	})
	client := New(path)
	defer client.Close()
	id, err := client.RegisterFunction("hello", "bun", "handler")
	if err != nil || id != "hello" || count.Load() != 2 {
		t.Errorf("%q %v after %d requests", id, err, count.Load())
	}
}

func TestWhoGivesUpDisturbsNobody(t *testing.T) {
	release := make(chan struct{})
	path, connections := server(t, func(a asked) []byte {
		if a.payload["function_id"] == "slow" {
			<-release
		}
		return answer(a.id, statusOK, map[string]any{"success": true})
	})
	client := New(path)
	defer client.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Millisecond)
	defer cancel()
	if _, err := client.InvokeContext(ctx, "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("%v", err)
	}
	close(release)
	if _, err := client.Invoke("quick", nil); err != nil || connections.Load() != 1 {
		t.Errorf("%v over %d connections", err, connections.Load())
	}
}

func TestAClosedClientSaysSo(t *testing.T) {
	path, _ := server(t, func(a asked) []byte { return answer(a.id, statusOK, map[string]any{"success": true}) })
	client := New(path)
	if _, err := client.Invoke("a", nil); err != nil {
		t.Fatal(err)
	}
	client.Close()
	if _, err := client.Invoke("a", nil); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
	if _, err := New("/nowhere/at/all").Invoke("a", nil); err == nil {
		t.Error("nobody is there, and somebody answered")
	}
}

func TestATokenGoesWithEveryRequest(t *testing.T) {
	path, _ := server(t, func(a asked) []byte {
		return answer(a.id, statusOK, map[string]any{"function_id": a.payload["token"]})
	})
	client := New("unix:"+path, WithToken(`bgt_"x`))
	defer client.Close()
	if got, err := client.RegisterFunction("a", "", ""); err != nil || got != `bgt_"x` {
		t.Errorf("%q %v", got, err)
	}
}

func TestAFrameThatCannotBeEndsTheConnection(t *testing.T) {
	path, _ := server(t, func(a asked) []byte { return []byte{0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13} })
	client := New(path)
	defer client.Close()
	if _, err := client.Invoke("a", nil); !errors.Is(err, ErrConnectionLost) {
		t.Errorf("%v", err)
	}
	body := make([]byte, frameMax)
	if _, err := client.Invoke("a", &InvokeRequest{Body: body}); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("a body of %d bytes: %v", len(body), err)
	}
}
