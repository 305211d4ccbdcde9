// A handler of ../functions by hand, with nothing around it: `bun serve.ts HANDLER SOCKET|PORT`.
const [handler, where] = process.argv.slice(2);
const { default: found } = await import(`../functions/src/${handler}.ts`);
const served = typeof found === "function" ? { fetch: found } : found;
const port = Number(where);
Bun.serve(Number.isNaN(port) ? { unix: where, ...served } : { hostname: "127.0.0.1", port, ...served });
