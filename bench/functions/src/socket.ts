// Sends every message back. The peer serves this very file.
export default {
  fetch: (request: Request, server: { upgrade(request: Request): boolean }) =>
    server.upgrade(request) ? undefined : new Response("hello"),
  websocket: { message: (ws: { send(message: unknown): void }, message: unknown) => ws.send(message) },
};
