// The console of an isolate: every line goes to the host with the method that wrote it.

export function install(native, others) {
  const format = others.$format;
  const textOf = (values) => {
    if (values.length === 1 && typeof values[0] === "string") return values[0];
    return format(...values);
  };
  const at = (method) => (...values) => native.log(method, textOf(values));
  const console = { log: at("log"), info: at("info"), warn: at("warn"), error: at("error"), debug: at("debug") };
  console.trace = (...values) => native.log("trace", `${textOf(values)}\n${new Error().stack.split("\n").slice(1).join("\n")}`);
  console.assert = (fact, ...values) => {
    if (!fact) native.log("error", textOf(["Assertion failed", ...values]));
  };
  return { console };
}
