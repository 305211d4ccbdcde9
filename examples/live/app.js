// A web service as it may run in any container: one line around its handler makes it live.
import { createServer } from "node:http";
import { live } from "bungee";

/** What the service does; deployed or on a laptop, it is this. */
const greet = live.web("shop/greet", async (request) => {
  const name = new URL(request.url).searchParams.get("name") ?? "world";
  return Response.json({ greeting: `Hello, ${name}!`, from: process.env.PLACE ?? "this laptop" });
});

/** Node's own server in front of it; on the laptop nobody needs one. */
function listen(port) {
  const server = createServer(async (incoming, outgoing) => {
    const headers = Object.entries(incoming.headers).flatMap(([name, value]) => [value ?? []].flat().map((one) => [name, one]));
    try {
      const url = `http://${incoming.headers.host}${incoming.url}`;
      const response = await greet(new Request(url, { method: incoming.method, headers }));
      outgoing.writeHead(response.status, Object.fromEntries(response.headers));
      outgoing.end(Buffer.from(await response.arrayBuffer()));
    } catch (error) {
      outgoing.writeHead(502, { "content-type": "application/json" });
      outgoing.end(JSON.stringify({ error: { type: error.name, message: error.message } }));
    }
  });
  server.listen(port, "127.0.0.1", () => console.log(`deployed at http://127.0.0.1:${server.address().port}`));
}

if (process.env.PORT !== undefined) listen(Number(process.env.PORT));
