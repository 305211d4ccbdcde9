// Load that knows what it asked: `bun ids.ts URL CLIENTS COUNT FIRST` sends COUNT requests, each with a number of its own as
// `?id=`, over connections that wait for each answer, which has to be that number. One line of JSON out.
const [url, ...numbers] = process.argv.slice(2);
const { hostname, port, pathname } = new URL(url);
const [clients, count, first] = numbers.map(Number);
const wrong: string[] = [];
let [sent, done] = [0, 0];

type Client = { asked: number; text: string };

function ask(socket: Bun.Socket<Client>): void {
  if (sent === count) return void socket.end();
  socket.data = { asked: first + sent++, text: "" };
  socket.write(`GET ${pathname}?id=${socket.data.asked} HTTP/1.1\r\nHost: ${hostname}\r\n\r\n`);
}

function hear(socket: Bun.Socket<Client>, bytes: Buffer): void {
  const client = socket.data;
  client.text += bytes.toString("latin1");
  const head = client.text.indexOf("\r\n\r\n");
  const length = /\r\ncontent-length: (\d+)/i.exec(client.text);
  if (head < 0 || !length || client.text.length < head + 4 + Number(length[1])) return;
  const body = client.text.slice(head + 4);
  if (!client.text.startsWith("HTTP/1.1 200") || body !== String(client.asked)) {
    wrong.push(`${client.asked}: ${client.text.slice(0, 12)} ${body.slice(0, 200)}`);
  }
  if (++done === count) finish();
  else ask(socket);
}

function finish(): never {
  const seconds = (performance.now() - begun) / 1000;
  console.log(JSON.stringify({ rate: done / seconds, seconds, done, wrong: wrong.length, samples: wrong.slice(0, 5) }));
  process.exit(0);
}

const begun = performance.now();
for (let client = 0; client < clients; client++) {
  await Bun.connect<Client>({
    hostname,
    port: Number(port),
    data: { asked: 0, text: "" },
    socket: {
      open: ask,
      data: hear,
      close: () => {
        if (sent === count) return;
        console.error(`a connection was closed after ${done} answers`);
        process.exit(1);
      },
    },
  });
}
