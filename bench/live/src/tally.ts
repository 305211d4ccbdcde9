// Answers with the name that its request has, and remembers all names; without a name it tells how many calls and names there were.
import { where } from "./where";

const names = new Set<string>();
let calls = 0;

export default (request: Request): Response => {
  const id = new URL(request.url).searchParams.get("id");
  if (id === null) return Response.json({ where, calls, names: names.size });
  calls++;
  names.add(id);
  return new Response(id);
};
