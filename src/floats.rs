//! The values of a tensor in place, for what is done to them without libtorch.

#![expect(unsafe_code, reason = "tch gives the address of a tensor's values, and no slice")]

use tch::{Device, Kind, Tensor};

/// The values of a tensor on the CPU: `f32`, one axis, no gaps. None of any other.
///
/// Other tensors may be views of the same values, and libtorch writes through any of them. Whoever holds the slice calls
/// nothing that writes to one.
pub(crate) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    is_plain(tensor).then(|| {
        // SAFETY: `is_plain` says that `numel` values of type f32 lie at this address one after the other. They live as long
        // as the tensor, which is borrowed as long as the slice.
        unsafe { std::slice::from_raw_parts(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
    })
}

/// As [`floats`], to be written. Whoever holds the slice calls nothing that reads or writes a view of it.
pub(crate) fn floats_mut(tensor: &mut Tensor) -> Option<&mut [f32]> {
    is_plain(tensor).then(|| {
        // SAFETY: as above, and the tensor is borrowed by nobody else.
        unsafe { std::slice::from_raw_parts_mut(tensor.data_ptr().cast::<f32>(), tensor.numel()) }
    })
}

fn is_plain(tensor: &Tensor) -> bool {
    tensor.device() == Device::Cpu
        && tensor.kind() == Kind::Float
        && tensor.dim() == 1
        && tensor.is_contiguous()
        && !tensor.data_ptr().is_null()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_values_on_the_cpu() {
        let mut tensor = Tensor::from_slice(&[1.0_f32, 2.0, 3.0]);
        floats_mut(&mut tensor).unwrap()[1] = 5.0;
        assert_eq!(floats(&tensor).unwrap(), [1.0, 5.0, 3.0]);
        assert_eq!(tensor, Tensor::from_slice(&[1.0_f32, 5.0, 3.0]));
        let others = [tensor.to_kind(Kind::Double), tensor.view([3, 1]), tensor.slice(0, 0, 3, 2)];
        assert!(others.iter().all(|tensor| floats(tensor).is_none()));
    }
}
