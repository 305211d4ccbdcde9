interface Context {
  /** The function's `env`. */
  env: Record<string, string>;
}

/** Answers /functions/hello and /hello/ANN. */
export default (request: Request, context: Context): Response => {
  const { pathname } = new URL(request.url);
  const [, name = "World"] = pathname.match(/\/hello\/([^/]+)/) ?? [];
  const greeting = context.env.GREETING ?? "Hello";
  console.log("greeting", name);
  return Response.json({ message: `${greeting}, ${decodeURIComponent(name)}!` });
};
