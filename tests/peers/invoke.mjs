// Invokes by the unmodified AWS SDK for JavaScript: whole, streamed, and what is refused. Prints what came as JSON.
import { createRequire } from "node:module";

const [modules, endpoint, accessKeyId, secretAccessKey] = process.argv.slice(2);
const require = createRequire(`${modules}/`);
const { InvokeCommand, InvokeWithResponseStreamCommand, LambdaClient } = require("@aws-sdk/client-lambda");

const client = new LambdaClient({
  endpoint,
  region: "eu-central-1",
  credentials: { accessKeyId, secretAccessKey },
  maxAttempts: 1,
});
const text = (bytes) => Buffer.from(bytes).toString();
const FunctionName = "arn:aws:lambda:eu-central-1:000000000000:function:hello";
const Payload = JSON.stringify({ name: "js" });

const whole = await client.send(new InvokeCommand({ FunctionName, Payload, Qualifier: "$LATEST", LogType: "Tail" }));
const stream = await client.send(new InvokeWithResponseStreamCommand({ FunctionName, Payload }));
const pieces = [];
let complete = null;
for await (const event of stream.EventStream) {
  if (event.PayloadChunk) pieces.push(text(event.PayloadChunk.Payload));
  else complete = event.InvokeComplete;
}
let refused = null;
try {
  await client.send(new InvokeCommand({ FunctionName: "nobody" }));
} catch (error) {
  refused = { name: error.name, status: error.$metadata.httpStatusCode, message: error.message };
}
console.log(
  JSON.stringify({
    payload: text(whole.Payload),
    status: whole.StatusCode,
    version: whole.ExecutedVersion,
    log: Buffer.from(whole.LogResult, "base64").toString(),
    id: whole.$metadata.requestId,
    pieces,
    complete,
    refused,
  }),
);
