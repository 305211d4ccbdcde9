import { Order, total } from "./order";

interface Context {
  functionName: string;
  invocationId: string;
  getRemainingTimeInMillis(): number;
}

/** Turns an order into the text of its receipt. */
export const handler = async (event: unknown, context: Context) => {
  const order = Order.parse(event);
  const amount = (cents: number) => `${(cents / 100).toFixed(2)} ${process.env.CURRENCY ?? "EUR"}`;
  console.log(`receipt for ${order.id}, ${context.getRemainingTimeInMillis()} ms left`);
  return {
    order: order.id,
    lines: [...order.items.map((item) => `${item.name}: ${amount(item.cents)}`), `total: ${amount(total(order))}`],
    invocation: context.invocationId,
  };
};
