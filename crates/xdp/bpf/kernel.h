// What programs need of the kernel: its helpers by their numbers (uapi/linux/bpf.h, where each is
// described and its licence told: all of these are free to any), and the order of bytes.
#ifndef AQUATIC_KERNEL_H
#define AQUATIC_KERNEL_H

#include <linux/bpf.h>
#include <linux/types.h>

#define SECTION(name) __attribute__((section(name), used))
#define INLINE static inline __attribute__((always_inline))

static void *(*const map_lookup_elem)(void *map, const void *key) = (void *)BPF_FUNC_map_lookup_elem;
static __u64 (*const ktime_get_coarse_ns)(void) = (void *)BPF_FUNC_ktime_get_coarse_ns;
static __u32 (*const get_smp_processor_id)(void) = (void *)BPF_FUNC_get_smp_processor_id;
static long (*const skb_load_bytes)(const void *skb, __u32 offset, void *to, __u32 len) =
	(void *)BPF_FUNC_skb_load_bytes;
static long (*const skb_load_bytes_relative)(const void *skb, __u32 offset, void *to, __u32 len,
					     __u32 start_header) =
	(void *)BPF_FUNC_skb_load_bytes_relative;
static __u64 (*const xdp_get_buff_len)(struct xdp_md *frame) = (void *)BPF_FUNC_xdp_get_buff_len;
static long (*const xdp_adjust_tail)(struct xdp_md *frame, int delta) =
	(void *)BPF_FUNC_xdp_adjust_tail;
static long (*const xdp_store_bytes)(struct xdp_md *frame, __u32 offset, const void *from,
				     __u32 len) = (void *)BPF_FUNC_xdp_store_bytes;
static long (*const redirect_map)(void *map, __u32 key, __u64 flags) = (void *)BPF_FUNC_redirect_map;

// Programs are compiled for machines of this order, which all are that Linux tracks run on.
#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "for bpfel only"
#endif
#define BE16(x) __builtin_bswap16(x)
#define BE32(x) __builtin_bswap32(x)
#define BE64(x) __builtin_bswap64(x)

// A map, for whoever loads the program: it makes one for each name, and puts it where the name is
// used.
#define MAP(name) char name SECTION("maps")

// An element of an array. Its index is stored as 8 bytes, of which the kernel reads the first 4: a
// store of 4 where a pointer was kept before is refused where a process has few rights.
INLINE void *element(void *map, __u32 index)
{
	__u64 key = index;
	return map_lookup_elem(map, &key);
}

#endif
