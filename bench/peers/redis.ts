// A call through Redis, as live development goes through a broker elsewhere: PUBLISH to whoever listens, BRPOP for the answer.
// `bun redis.ts answer PORT` answers each message; `bun redis.ts ask PORT SECONDS` asks one by one and prints a line of JSON.
const [role, port, seconds] = process.argv.slice(2);
const command = (...words: string[]): string =>
  `*${words.length}\r\n${words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("")}`;
const open = (data: (text: string) => void) =>
  Bun.connect({ hostname: "127.0.0.1", port: Number(port), socket: { data: (_, bytes) => data(bytes.toString()) } });

if (role === "answer") {
  const out = await open(() => {});
  const on = await open((text) => {
    if (text.includes("message")) out.write(command("LPUSH", "answers", "hello"));
  });
  on.write(command("SUBSCRIBE", "calls"));
} else {
  const took: number[] = [];
  let begun = 0;
  const ask = (): void => {
    begun = performance.now();
    asking.write(command("PUBLISH", "calls", "hello") + command("BRPOP", "answers", "10"));
  };
  const end = performance.now() + Number(seconds) * 1000;
  const asking = await open((text) => {
    if (!text.includes("answers")) return; // only how many heard the message
    took.push(performance.now() - begun);
    if (performance.now() < end) return ask();
    took.sort((a, b) => a - b);
    const at = (share: number) => took[Math.floor(took.length * share)] * 1000;
    console.log(JSON.stringify({ count: took.length, p50_us: at(0.5), p99_us: at(0.99) }));
    process.exit(0);
  });
  ask();
}
