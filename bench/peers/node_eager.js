// The handler of the Web API on Node, with each Request and Response made whole at once: `node node_eager.js PORT`.
const handler = () => new Response("hello\n");
require("node:http")
  .createServer(async (incoming, outgoing) => {
    const { method, url, headers } = incoming;
    const response = await handler(new Request(`http://${headers.host}${url}`, { method, headers }));
    outgoing.writeHead(response.status, Object.fromEntries(response.headers));
    outgoing.end(Buffer.from(await response.arrayBuffer()));
  })
  .listen(Number(process.argv[2]), "127.0.0.1");
