// Which of the two this is; the laptop's copy says so.
export const where = "server";
