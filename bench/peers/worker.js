// The hello handler in workerd's words.
export default { fetch: () => new Response("hello\n") };
