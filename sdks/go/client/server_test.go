package client

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

const code = `
export default async function handler(request) {
  const body = await request.text();
  if (body === "throw") throw new TypeError("boom");
  console.log("heard " + body);
  return new Response(body.toUpperCase(), { headers: { "x-kind": "shout" } });
}
`

// TestAgainstAServer runs where BUNGEE_SOCKET names a server, by a path or as tcp://HOST:PORT.
func TestAgainstAServer(t *testing.T) {
	address := os.Getenv("BUNGEE_SOCKET")
	if address == "" {
		t.Skip("BUNGEE_SOCKET names no server")
	}
	client := New(address, WithToken(os.Getenv("BUNGEE_TOKEN")))
	defer client.Close()
	file := filepath.Join(t.TempDir(), "bundle.js")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	id, err := client.RegisterFunction("shout", "bun", "handler")
	if err != nil || id != "shout" {
		t.Fatalf("%q %v", id, err)
	}
	first, err := client.DeployFunction(id, "v1", file)
	if err != nil || first == "" {
		t.Fatalf("%q %v", first, err)
	}
	var group sync.WaitGroup
	for n := 0; n < 50; n++ {
		group.Add(1)
		go func(n int) {
			defer group.Done()
			word := strings.Repeat("a", n)
			got, err := client.Invoke(id, &InvokeRequest{Method: "POST", Path: "/", Body: []byte(word)})
			if err != nil || string(got.Body) != strings.ToUpper(word) || got.Headers["x-kind"] != "shout" {
				t.Errorf("%q got %+v, %v", word, got, err)
			}
		}(n)
	}
	group.Wait()
	var failed *InvokeError
	if _, err := client.Invoke(id, &InvokeRequest{Body: []byte("throw")}); !errors.As(err, &failed) || failed.Response.ErrorType != "HandlerError" {
		t.Errorf("%v", err)
	}
	var refused *Error
	if _, err := client.DeployFunction(id, "v1", os.Args[0]); !errors.As(err, &refused) {
		t.Errorf("%v", err)
	}
	metrics, err := client.GetMetrics(id)
	if err != nil || metrics.Invocations["ok"] != 50 || metrics.Invocations["HandlerError"] != 1 || metrics.DurationMS.P99 <= 0 {
		t.Errorf("%+v %v", metrics, err)
	}
	for patience := 0; ; patience++ {
		lines, err := client.GetLogs(id, time.Now().Add(-time.Hour), 100)
		if err != nil || patience == 200 {
			t.Fatalf("%v %v", lines, err)
		}
		if len(lines) >= 50 && strings.HasPrefix(lines[0].Message, "heard ") && lines[0].InvocationID != "" {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}
