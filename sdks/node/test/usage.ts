// Compiled, never run: the types as programs use them.
import { createLive, live, LiveSessionLost, type Context } from "bungee";

interface Order {
  id: string;
}

export const handler = live("shop/orders", async (order: Order, context: Context) => ({ id: order.id, left: context.getRemainingTimeInMillis() }));
export const older = live<Order, number>("orders", (order, _context, callback) => callback(null, order.id.length));
export const page = live.web("shop/page", (request) => new Response(request.url), { user: (request) => request.headers.get("x-sub") ?? undefined });
export const worker = live.web("shop/worker", async (request: Request, env: { NAME: string }) => new Response(env.NAME + request.method), { timeout: 30_000 });

async function use(): Promise<string> {
  const { id, left } = await handler({ id: "A-1" });
  const length: number = await older({ id: "A-1" });
  const response: Response = await worker(new Request("http://localhost/"), { NAME: "x" });
  await createLive({ env: { BUNGEE_ROLE: "off" }, say: (line) => line.length }).close();
  return `${id} ${left.toFixed()} ${length} ${response.status}`;
}
use().catch((error) => error instanceof LiveSessionLost);

// @ts-expect-error an order has an id
handler({ name: "A-1" });
// @ts-expect-error a handler is a function
live("shop/orders", 7);
// @ts-expect-error a web handler answers with a Response
live.web("shop/page", () => "text");
// @ts-expect-error no such role
live("shop/orders", async () => 1, { role: "laptop" });
