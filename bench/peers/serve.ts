// A handler of ../functions by hand, with nothing around it: `bun serve.ts HANDLER SOCKET|PORT`.
const [handler, where] = process.argv.slice(2);
const { default: fetch } = await import(`../functions/src/${handler}.ts`);
const port = Number(where);
Bun.serve(Number.isNaN(port) ? { unix: where, fetch } : { hostname: "127.0.0.1", port, fetch });
