// Load on WebSockets: `bun sockets.ts URL CLIENTS SECONDS`. Each client sends its next message when the last has come back.
// One line of JSON out: messages per second.
const [url, clients, seconds] = process.argv.slice(2);
const message = "x".repeat(64);
let echoed = 0;
const opened = Array.from({ length: Number(clients) }, () => {
  const socket = new WebSocket(url);
  socket.onmessage = () => {
    echoed++;
    socket.send(message);
  };
  socket.onclose = (end) => {
    console.error(`a socket ended with ${end.code}`);
    process.exit(1);
  };
  return new Promise<WebSocket>((resolve) => (socket.onopen = () => resolve(socket)));
});
for (const socket of await Promise.all(opened)) socket.send(message);
await Bun.sleep(500);
const [before, begun] = [echoed, performance.now()];
await Bun.sleep(Number(seconds) * 1000);
console.log(JSON.stringify({ rate: ((echoed - before) * 1000) / (performance.now() - begun) }));
process.exit(0);
