// Command hello greets whom the path names: /functions/hello and /hello/ANN.
package main

import (
	"context"
	"log"
	"os"

	"github.com/aws/aws-lambda-go/events"
	"github.com/aws/aws-lambda-go/lambda"
)

type greeting struct {
	Message string `json:"message"`
}

func handle(_ context.Context, request events.APIGatewayV2HTTPRequest) (greeting, error) {
	name, named := request.PathParameters["name"]
	if !named {
		name = "World"
	}
	log.Println("greeting", name)
	return greeting{Message: os.Getenv("GREETING") + ", " + name + "!"}, nil
}

func main() {
	lambda.Start(handle)
}
