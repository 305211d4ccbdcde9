// Leaves a line in a file: who asked, and where it ran. Appended lines of this length are never mixed.
import { appendFileSync } from "node:fs";
import { where } from "./where";

export default (request: Request): Response => {
  const asked = new URL(request.url).searchParams;
  appendFileSync(asked.get("file")!, `${asked.get("id")} ${where}\n`);
  return new Response(where);
};
