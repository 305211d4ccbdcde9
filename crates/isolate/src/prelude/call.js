// What belongs to an invocation rather than to the standard: the context, and the random numbers of a context that is
// a copy. It is not for users to call.

/** The second argument of a handler: what is the same for each invocation; the rest is filled in. */
function makeContext(fixed, env, native) {
  return {
    functionName: fixed[0],
    functionVersion: fixed[1],
    memoryLimitInMB: fixed[2],
    awsRequestId: "",
    projectId: fixed[3],
    invocationId: "",
    trigger: "",
    timestamp: "",
    logGroupName: `/aws/lambda/${fixed[0]}`,
    logStreamName: fixed[1],
    invokedFunctionArn: "",
    getRemainingTimeInMillis: native.remaining,
    env,
  };
}

function fillContext(context, id, trigger, arn, client) {
  context.awsRequestId = id;
  context.invocationId = id;
  context.trigger = trigger;
  context.timestamp = new Date().toISOString();
  context.invokedFunctionArn = arn ?? `arn:aws:lambda:us-east-1:000000000000:function:${context.functionName}`;
  if (client) context.clientContext = JSON.parse(client);
  return context;
}

export function install(native) {
  // The engine seeds its own generator once for each context, and all contexts here are copies of one.
  Object.defineProperty(Math, "random", { value: native.random, writable: true, configurable: true });
  return {
    $makeContext: (fixed, env) => makeContext(fixed, env, native),
    $fillContext: fillContext,
  };
}
