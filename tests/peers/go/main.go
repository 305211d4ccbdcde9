// Every kind of answer that aws-lambda-go can give, chosen by the event.
package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
	"github.com/aws/aws-lambda-go/lambdacontext"
)

type event struct {
	Act string `json:"act"`
}

// A body that breaks off after its first bytes.
type broken struct{ sent bool }

func (b *broken) Read(into []byte) (int, error) {
	if b.sent {
		return 0, errors.New("the disk is gone")
	}
	b.sent = true
	return copy(into, "part"), nil
}

var here sync.WaitGroup

func handle(ctx context.Context, e event) (any, error) {
	at, _ := lambdacontext.FromContext(ctx)
	deadline, _ := ctx.Deadline()
	switch e.Act {
	case "fail":
		return nil, errors.New("as asked")
	case "panic":
		panic("as asked")
	case "large":
		return strings.Repeat("x", 6291556), nil
	case "stream":
		return io.MultiReader(strings.NewReader("one "), strings.NewReader("two")), nil
	case "broken":
		return &events.LambdaFunctionURLStreamingResponse{Body: &broken{}}, nil
	case "response":
		return &events.LambdaFunctionURLStreamingResponse{
			StatusCode: 201, Headers: map[string]string{"x-a": "1"}, Cookies: []string{"c=1"}, Body: strings.NewReader("body"),
		}, nil
	case "meet":
		// Waits until four of them are here.
		here.Done()
		here.Wait()
	}
	return map[string]any{"id": at.AwsRequestID, "arn": at.InvokedFunctionArn, "act": e.Act, "has_time": time.Until(deadline) > 0}, nil
}

func main() {
	here.Add(4)
	lambda.Start(handle)
}
