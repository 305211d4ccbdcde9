// Blocks its event loop for ever, or answers at once.
export default (event: { case?: string }): string => {
  while (event.case === "loop") {}
  return "ready";
};
