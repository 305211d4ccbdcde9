import { z } from "zod";

/** An order's id, such as `A-17`. */
export const OrderId = z.string().regex(/^[A-Z]-\d+$/, "an id is a letter, a dash and a number, like A-17");

export const Order = z.object({
  id: OrderId,
  items: z.array(z.object({ name: z.string().min(1), cents: z.int().nonnegative() })).min(1),
});

export type Order = z.infer<typeof Order>;

/** What an order costs, in cents. */
export const total = (order: Order): number => order.items.reduce((sum, item) => sum + item.cents, 0);
