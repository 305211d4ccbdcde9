// Command story streams its answer line by line.
package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

func handle(context.Context, events.LambdaFunctionURLRequest) (*events.LambdaFunctionURLStreamingResponse, error) {
	reader, writer := io.Pipe()
	go func() {
		for line := 1; line <= 3; line++ {
			fmt.Fprintf(writer, "line %d\n", line)
			time.Sleep(100 * time.Millisecond)
		}
		writer.Close()
	}()
	return &events.LambdaFunctionURLStreamingResponse{
		StatusCode: 200,
		Headers:    map[string]string{"content-type": "text/plain"},
		Body:       reader,
	}, nil
}

func main() {
	lambda.Start(handle)
}
