// Ordinary compiled loops for the overhead benchmark. Built by:
//   clang --target=wasm32 -O2 -nostdlib -fno-builtin -Wl,--no-entry -Wl,--strip-all -o bench.wasm bench.c
#define EXPORT(name) __attribute__((export_name(#name)))
typedef unsigned char u8;
typedef unsigned int u32;
typedef unsigned long long u64;

static u8 bytes[64 * 1024];
static u32 words[4096];
static double grid[64 * 64], other[64 * 64], product[64 * 64];

EXPORT(fill) u32 fill(u32 n) {
  u32 x = 2463534242u;
  for (u32 i = 0; i < sizeof bytes; i++) {
    x ^= x << 13, x ^= x >> 17, x ^= x << 5;
    bytes[i] = (u8)x;
  }
  return x + n;
}

EXPORT(sum) u32 sum(u32 n) {
  u32 s = 0;
  for (u32 r = 0; r < n; r++)
    for (u32 i = 0; i < sizeof bytes; i++) s += bytes[i];
  return s;
}

EXPORT(fnv) u32 fnv(u32 n) {
  u32 h = 2166136261u;
  for (u32 r = 0; r < n; r++)
    for (u32 i = 0; i < sizeof bytes; i++) h = (h ^ bytes[i]) * 16777619u;
  return h;
}

EXPORT(filter) u32 filter(u32 n) {
  u32 found = 0;
  for (u32 r = 0; r < n; r++)
    for (u32 i = 0; i + 4 < sizeof bytes; i++) {
      u8 c = bytes[i];
      if (c >= 'a' && c <= 'z') found++;
      else if (c == '%' && bytes[i + 1] == bytes[i + 3]) found += 3;
      else if (c > 200) found ^= c;
    }
  return found;
}

EXPORT(sieve) u32 sieve(u32 n) {
  u32 primes = 0;
  for (u32 r = 0; r < n; r++) {
    for (u32 i = 0; i < 4096; i++) words[i] = 1;
    for (u32 i = 2; i < 4096; i++) {
      if (!words[i]) continue;
      primes++;
      for (u32 j = i + i; j < 4096; j += i) words[j] = 0;
    }
  }
  return primes;
}

static void sort(u32 *a, int low, int high) {
  while (low < high) {
    u32 pivot = a[(low + high) / 2];
    int i = low, j = high;
    while (i <= j) {
      while (a[i] < pivot) i++;
      while (a[j] > pivot) j--;
      if (i <= j) {
        u32 t = a[i];
        a[i++] = a[j];
        a[j--] = t;
      }
    }
    sort(a, low, j);
    low = i;
  }
}

EXPORT(quicksort) u32 quicksort(u32 n) {
  u32 x = 88172645u;
  for (u32 r = 0; r < n; r++) {
    for (u32 i = 0; i < 4096; i++) {
      x ^= x << 13, x ^= x >> 17, x ^= x << 5;
      words[i] = x;
    }
    sort(words, 0, 4095);
  }
  return words[77];
}

EXPORT(matrix) u32 matrix(u32 n) {
  for (u32 r = 0; r < n; r++)
    for (u32 i = 0; i < 64; i++)
      for (u32 j = 0; j < 64; j++) {
        double s = r;
        for (u32 k = 0; k < 64; k++) s += (grid[i * 64 + k] + k) * (other[k * 64 + j] + i);
        product[i * 64 + j] = s;
      }
  return (u32)product[99];
}

EXPORT(xorshift) u32 xorshift(u32 n) {
  u64 x = 88172645463325252ull;
  for (u32 i = 0; i < n; i++) x ^= x << 13, x ^= x >> 7, x ^= x << 17;
  return (u32)x;
}

EXPORT(fib) u32 fib(u32 n) { return n < 2 ? n : fib(n - 1) + fib(n - 2); }
