import { type Order, OrderId, total } from "./order";

/** What the server adds to a request that came by a declared route. */
interface Params {
  params?: { id?: string };
}

const orders: Order[] = [
  { id: "A-1", items: [{ name: "rope", cents: 1250 }] },
  {
    id: "A-2",
    items: [
      { name: "harness", cents: 4900 },
      { name: "helmet", cents: 3500 },
    ],
  },
];

/** One order by `GET /orders/:id`, all of them by `/functions/shop/orders`. */
export default (request: Request & Params): Response => {
  if (request.params?.id === undefined) {
    return Response.json(orders.map((order) => order.id));
  }
  const id = OrderId.safeParse(request.params.id);
  if (!id.success) {
    return Response.json({ error: id.error.issues[0]?.message }, { status: 400 });
  }
  const order = orders.find((order) => order.id === id.data);
  if (order === undefined) {
    return Response.json({ error: `there is no order ${id.data}` }, { status: 404 });
  }
  return Response.json({ ...order, total: total(order) });
};
