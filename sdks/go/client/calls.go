package client

import (
	"context"
	"time"
)

// Commands of the wire.
const (
	commandInvoke   = 1
	commandLogs     = 2
	commandMetrics  = 3
	commandRegister = 4
	commandDeploy   = 5
)

// InvokeRequest is a web request to a function. What is left empty has a default: the path is "/", and the method GET,
// or POST where there is a body.
type InvokeRequest struct {
	Method  string            `json:"method,omitempty"`
	Path    string            `json:"path,omitempty"`
	Headers map[string]string `json:"headers,omitempty"`
	Query   map[string]string `json:"query,omitempty"`
	Body    []byte            `json:"body,omitempty"`
}

// InvokeResponse is what a function answered.
type InvokeResponse struct {
	// Success says that the handler answered, with whatever status.
	Success bool `json:"success"`
	Status  int  `json:"status"`
	// Headers has one value for each name; several are joined by commas.
	Headers map[string]string `json:"headers"`
	// Cookies has each Set-Cookie header.
	Cookies []string `json:"cookies"`
	Body    []byte   `json:"body"`
	// Error and ErrorType say why the invocation failed, if it did.
	Error     string `json:"error"`
	ErrorType string `json:"error_type"`
	// ExecutionTimeMS is the time in the worker, in whole milliseconds.
	ExecutionTimeMS int64 `json:"execution_time_ms"`
	// ExecutionID is the invocation's id, as logs and records have it.
	ExecutionID string `json:"execution_id"`
}

// LogLine is one line that a function wrote.
type LogLine struct {
	FunctionID string `json:"function_id"`
	// InvocationID is empty for lines of no invocation.
	InvocationID string    `json:"invocation_id"`
	Level        string    `json:"level"`
	Message      string    `json:"message"`
	CreatedAt    time.Time `json:"created_at"`
}

// Metrics are a function's figures since the server started.
type Metrics struct {
	FunctionID string `json:"function_id"`
	Status     string `json:"status"`
	Total      int64  `json:"total"`
	// Invocations by outcome: "ok", or the type of the error.
	Invocations map[string]int64 `json:"invocations"`
	ColdStarts  int64            `json:"cold_starts"`
	DurationMS  struct {
		P50 float64 `json:"p50"`
		P95 float64 `json:"p95"`
		P99 float64 `json:"p99"`
	} `json:"duration_ms"`
	// Workers by state: starting, warm, busy, idle, retiring.
	Workers map[string]int `json:"workers"`
	// Waiting invocations, which have no worker yet.
	Waiting int `json:"waiting"`
}

// RegisterFunction registers a function, and returns its id. An empty runtime is "bun", an empty handler the default export.
func (c *Client) RegisterFunction(name, runtime, handler string) (string, error) {
	return c.RegisterFunctionContext(context.Background(), name, runtime, handler)
}

// RegisterFunctionContext is RegisterFunction with a context.
func (c *Client) RegisterFunctionContext(ctx context.Context, name, runtime, handler string) (string, error) {
	request := struct {
		Name    string `json:"name"`
		Runtime string `json:"runtime"`
		Handler string `json:"handler"`
	}{name, runtime, handler}
	var answer struct {
		FunctionID string `json:"function_id"`
	}
	err := c.call(ctx, commandRegister, true, request, &answer)
	return answer.FunctionID, err
}

// DeployFunction deploys a file on the server's disk under a version, which is a label of yours, and makes it current.
// It returns what the bungee command takes for this version.
func (c *Client) DeployFunction(functionID, version, bundlePath string) (string, error) {
	return c.DeployFunctionContext(context.Background(), functionID, version, bundlePath)
}

// DeployFunctionContext is DeployFunction with a context.
func (c *Client) DeployFunctionContext(ctx context.Context, functionID, version, bundlePath string) (string, error) {
	request := struct {
		FunctionID string `json:"function_id"`
		Version    string `json:"version"`
		BundlePath string `json:"bundle_path"`
	}{functionID, version, bundlePath}
	var answer struct {
		VersionID string `json:"version_id"`
	}
	err := c.call(ctx, commandDeploy, true, request, &answer)
	return answer.VersionID, err
}

// Invoke calls a function and waits for its whole answer. If the invocation failed, the error is an *InvokeError, and the
// response is there too. A call that is lost with its connection is not repeated.
func (c *Client) Invoke(functionID string, request *InvokeRequest) (*InvokeResponse, error) {
	return c.InvokeContext(context.Background(), functionID, request)
}

// InvokeContext is Invoke with a context. When the context ends, nobody waits for the answer any more; what runs goes on.
func (c *Client) InvokeContext(ctx context.Context, functionID string, request *InvokeRequest) (*InvokeResponse, error) {
	if request == nil {
		request = &InvokeRequest{}
	}
	asked := struct {
		FunctionID string `json:"function_id"`
		*InvokeRequest
	}{functionID, request}
	answer := &InvokeResponse{}
	if err := c.call(ctx, commandInvoke, false, asked, answer); err != nil {
		return nil, err
	}
	if !answer.Success {
		return answer, &InvokeError{Response: answer}
	}
	return answer, nil
}

// GetLogs returns what a function wrote since a moment, oldest first: the newest lines, if there are more than the limit.
// The zero time is the beginning, a limit of 0 the server's own.
func (c *Client) GetLogs(functionID string, since time.Time, limit int) ([]LogLine, error) {
	return c.GetLogsContext(context.Background(), functionID, since, limit)
}

// GetLogsContext is GetLogs with a context.
func (c *Client) GetLogsContext(ctx context.Context, functionID string, since time.Time, limit int) ([]LogLine, error) {
	request := struct {
		FunctionID string `json:"function_id"`
		Since      string `json:"since,omitempty"`
		Limit      int    `json:"limit,omitempty"`
	}{FunctionID: functionID, Limit: limit}
	if !since.IsZero() {
		request.Since = since.UTC().Format(time.RFC3339Nano)
	}
	var answer struct {
		Logs []LogLine `json:"logs"`
	}
	err := c.call(ctx, commandLogs, true, request, &answer)
	return answer.Logs, err
}

// GetMetrics returns a function's figures.
func (c *Client) GetMetrics(functionID string) (*Metrics, error) {
	return c.GetMetricsContext(context.Background(), functionID)
}

// GetMetricsContext is GetMetrics with a context.
func (c *Client) GetMetricsContext(ctx context.Context, functionID string) (*Metrics, error) {
	request := struct {
		FunctionID string `json:"function_id"`
	}{functionID}
	answer := &Metrics{}
	if err := c.call(ctx, commandMetrics, true, request, answer); err != nil {
		return nil, err
	}
	return answer, nil
}
