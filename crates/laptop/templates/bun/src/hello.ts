/** Answers /functions/hello and /hello/ANN. */
export default async (request: Request): Promise<Response> => {
  const { pathname } = new URL(request.url);
  const [, name = "World"] = pathname.match(/\/hello\/([^/]+)/) ?? [];
  const greeting = process.env.GREETING ?? "Hello";
  console.log("greeting", name);
  return Response.json({ message: `${greeting}, ${decodeURIComponent(name)}!` });
};
